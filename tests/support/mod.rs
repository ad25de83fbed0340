//! Runs the examples as what they are, programs, and looks into the file that they leave.

mod file;
mod mayhem;
mod program;
mod steps;

pub(crate) use file::{Census, File};
pub(crate) use mayhem::{Mayhem, WORKER};
pub(crate) use program::{Finished, Program, Running, require_strace};
pub(crate) use steps::{
    PATIENCE, assert_recovered, finished, is_done, numbered, recoveries, stop, until,
};

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// The cities that come with the examples.
pub(crate) fn shipped_cities() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data/cities.csv")
}

/// Writes a list of the first `count` cities that come with the examples to `folder`.
pub(crate) fn cities(folder: &Path, count: usize) -> PathBuf {
    let all = std::fs::read_to_string(shipped_cities()).unwrap();
    let lines: Vec<&str> = all.lines().take(count + 1).collect();
    write(folder, "cities.csv", &lines.join("\n"))
}

/// Writes a list of `count` made-up cities, spread over `countries`, to `folder`.
pub(crate) fn made_up_cities(folder: &Path, count: usize, countries: usize) -> PathBuf {
    let mut text = "geoname_id,country,latitude,longitude\n".to_owned();
    for id in 1..=count {
        writeln!(
            text,
            "{id},K{},{}.5,{}.5",
            id % countries,
            id % 90,
            id % 180
        )
        .unwrap();
    }
    write(folder, "cities.csv", &text)
}

/// Writes `text` to a file called `name` in `folder`.
pub(crate) fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}
