//! Dead letters on servers that are killed, filled and cut off: nothing is lost, nothing doubled, and
//! what many letters cost grows as they do.

mod bounds;
mod clocks;
mod cost;
mod faults;
mod kill;
mod letters;
mod scene;
mod story;
