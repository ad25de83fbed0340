//! Damages what a key holds in its place, which no command does: entries of a stream never change.

use outbox_core::error::BoxError;
use outbox_redis_harness::{Answer, Wire};

/// The polynomial of the checksum at the end of a dump, reflected: CRC-64 as Redis has it.
const POLYNOMIAL: u64 = 0x95ac_9329_ac4b_c9b5;

/// Replaces `old` by `new`, of the same length, in what `key` holds.
pub(crate) async fn replace(url: &str, key: &str, old: &[u8], new: &[u8]) -> Result<(), BoxError> {
    let mut wire = Wire::to(url).await?;
    // What is compressed is not found; it does not harm that others' dumps are not, either.
    wire.command(&["CONFIG", "SET", "rdbcompression", "no"])
        .await?;
    let Answer::Text(mut dump) = wire.command(&["DUMP", key]).await? else {
        return Err(format!("there is no key {key}").into());
    };
    let place = dump.windows(old.len()).position(|part| part == old);
    let place = place.ok_or("there is no such entry")?;
    dump[place..place + old.len()].copy_from_slice(new);
    let end = dump.len() - 8;
    let checksum = checksum(&dump[..end]);
    dump[end..].copy_from_slice(&checksum.to_le_bytes());
    let words: [&[u8]; 5] = [b"RESTORE", key.as_bytes(), b"0", &dump, b"REPLACE"];
    match wire.command(&words).await? {
        Answer::Error(error) => Err(error.into()),
        _ => Ok(()),
    }
}

fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ u64::from(*byte), |crc, _| {
            let shifted = crc >> 1;
            if crc & 1 == 1 {
                shifted ^ POLYNOMIAL
            } else {
                shifted
            }
        })
    })
}
