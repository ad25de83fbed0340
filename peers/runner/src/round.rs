//! The rounds of an item: everybody's first, then everybody's second, and so on.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde::Deserialize;

use crate::Problem;
use crate::plan::{Item, Place, Side};
use crate::servers::{Postgres, Redis};

/// The time after which a side gets no further round of an item.
const BUDGET: Duration = Duration::from_secs(60);

/// The seconds after which a program gives up.
const PATIENCE: u64 = 300;

/// How rounds are run.
pub(crate) struct Rounds {
    pub(crate) count: usize,
    pub(crate) dir: PathBuf,
    pub(crate) programs: PathBuf,
}

/// What one program told.
#[derive(Clone, Copy, Deserialize)]
pub(crate) struct Times {
    push: Duration,
    drain: Duration,
}

impl Times {
    fn both(&self) -> Duration {
        self.push + self.drain
    }
}

/// The rounds of one side, or why it has none.
pub(crate) type Outcome = Result<Vec<Times>, String>;

impl Rounds {
    /// Runs all sides of an item in turns.
    pub(crate) fn run(&self, item: &Item) -> Result<Vec<Outcome>, Problem> {
        let postgres = match item.sides.iter().any(|side| side.place == Place::Postgres) {
            true => Some(Postgres::start(&self.dir)?),
            false => None,
        };
        let mut outcomes: Vec<Outcome> = item.sides.iter().map(|_| Ok(Vec::new())).collect();
        for round in 1..=self.count {
            for (side, outcome) in item.sides.iter().zip(&mut outcomes) {
                let Ok(times) = outcome else { continue };
                if times.iter().map(Times::both).sum::<Duration>() > BUDGET {
                    continue;
                }
                eprintln!(
                    "{} round {round} of {}: {}, {}",
                    item.id,
                    self.count,
                    side.who.name(),
                    side.how
                );
                match self.once(item, side, postgres.as_ref())? {
                    Ok(more) => times.push(more),
                    Err(problem) => *outcome = Err(problem),
                }
            }
        }
        Ok(outcomes)
    }

    /// One round of one side, on a fresh file or server.
    fn once(
        &self,
        item: &Item,
        side: &Side,
        postgres: Option<&Postgres>,
    ) -> Result<Result<Times, String>, Problem> {
        let folder = tempfile::Builder::new()
            .prefix("peers-")
            .tempdir_in(&self.dir)?;
        let redis = match side.broker || side.place == Place::Redis {
            true => Some(Redis::start(folder.path())?),
            false => None,
        };
        let redis_address = redis.as_ref().map_or("", |redis| redis.address.as_str());
        let at = match side.place {
            Place::File => file(folder.path()),
            Place::Redis => redis_address.to_owned(),
            Place::Postgres => postgres.map_or(String::new(), |server| server.address.clone()),
        };
        let mut command = Command::new(self.programs.join(side.who.program()));
        command
            .args(side.arguments)
            .arg(format!("--at={at}"))
            .arg(format!("--count={}", item.count))
            .arg(format!("--patience={PATIENCE}"));
        if let Some(wave) = item.wave {
            command.arg(format!("--wave={wave}"));
        }
        if side.broker {
            command.arg(format!("--broker={redis_address}"));
        }
        times(command)
    }
}

fn file(folder: &Path) -> String {
    folder.join("peers.db").display().to_string()
}

fn times(mut command: Command) -> Result<Result<Times, String>, Problem> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(Ok(serde_json::from_slice(&output.stdout)?));
    }
    let told = String::from_utf8_lossy(&output.stderr);
    let last = told.trim().lines().last().unwrap_or("said nothing");
    Ok(Err(format!("{}: {last}", output.status)))
}

/// The medians of a side, in tasks a second.
#[derive(Clone, Copy)]
pub(crate) struct Rates {
    pub(crate) push: f64,
    pub(crate) drain: f64,
    pub(crate) end_to_end: f64,
}

impl Rates {
    pub(crate) fn of(count: u64, rounds: &[Times]) -> Self {
        let rate = |time: fn(&Times) -> Duration| {
            let seconds = median(rounds.iter().map(|round| time(round).as_secs_f64()));
            count as f64 / seconds
        };
        Self {
            push: rate(|times| times.push),
            drain: rate(|times| times.drain),
            end_to_end: rate(Times::both),
        }
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one_or_between_the_middle_two() {
        let of = |values: &[f64]| median(values.iter().copied());
        assert!((of(&[5.0, 1.0, 3.0]) - 3.0).abs() < 1e-9);
        assert!((of(&[4.0, 1.0, 2.0, 9.0]) - 3.0).abs() < 1e-9);
    }
}
