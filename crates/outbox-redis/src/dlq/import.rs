use outbox_core::error::{OutboxError, Transience};
use outbox_core::time::Timestamp;
use outbox_dlq::{Action, ActionKind, DeadLetter, ImportReport};

use super::port::RedisQuarantine;
use super::{audit, label, letter, scripts};
use crate::error::{BACKEND, Fault};
use crate::link::Arg;

/// About the most bytes that one script adds.
const BYTES: usize = 8 << 20;

/// How often a part is tried that others add letters beside.
const TRIES: usize = 20;

impl RedisQuarantine {
    /// Adds those of `letters` that are not there, in as many steps as their bytes need.
    pub(super) async fn add(
        &self,
        letters: &[DeadLetter],
        (action, now): (&Action, Timestamp),
    ) -> Result<ImportReport, Fault> {
        let step = || audit::step(ActionKind::Import, action, "imported lines", now);
        let (mut args, mut bytes, mut imported) = (step(), 0, 0);
        for letter in letters {
            let size = size(letter);
            if bytes > 0 && bytes + size > BYTES {
                imported += self.add_part(std::mem::replace(&mut args, step())).await?;
                bytes = 0;
            }
            let fields = letter::fields(letter)?;
            args.push(Arg::Bytes(label::name(letter)));
            args.push(Arg::Integer(fields.len() as i64));
            args.extend(fields);
            bytes += size;
        }
        imported += self.add_part(args).await?;
        Ok(ImportReport {
            imported,
            duplicates: letters.len() as u64 - imported,
        })
    }

    /// Adds a part; again where letters came to rest that it was not compared with.
    async fn add_part(&self, args: Vec<Arg>) -> Result<u64, Fault> {
        for _ in 0..TRIES {
            self.fill().await?;
            let added = self.run(&scripts::IMPORT, None, args.clone()).await?;
            if let Ok(added) = u64::try_from(added.number()?) {
                return Ok(added);
            }
        }
        Err(Fault::Told(OutboxError::Backend {
            backend: BACKEND,
            operation: "import dead letters",
            transience: Transience::Transient,
            source: format!("others came to rest at each of {TRIES} tries").into(),
        }))
    }
}

/// About how many bytes a letter takes; at least 1.
fn size(letter: &DeadLetter) -> usize {
    let message = letter.message.as_ref();
    let message = message.map_or(0, |message| message.payload.len());
    1 + message + letter.body.as_ref().map_or(0, |body| body.len())
}
