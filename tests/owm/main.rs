//! The OWM examples, run as programs: what they tell, what they leave in the file, and how they end.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout
)]

#[allow(dead_code, unused_imports, reason = "each test uses its part")]
#[path = "../support/mod.rs"]
mod support;

mod refusals;
mod running;

use std::path::Path;

use support::{File, Finished, Program, made_up_cities};
use tempfile::{TempDir, tempdir};

/// A folder with a file for outbox and queue, and a list of cities.
struct Scene {
    folder: TempDir,
    file: File,
}

impl Scene {
    fn new() -> Self {
        let folder = tempdir().unwrap();
        let file = File::in_folder(folder.path());
        Self { folder, file }
    }

    fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn program(&self, name: &str) -> Program {
        Program::new(name)
            .arg("--json")
            .with("--outbox", self.file.path())
    }

    /// The cron job over `count` cities.
    fn producer(&self, count: usize) -> Program {
        let cities = made_up_cities(self.folder(), count, 7);
        self.program("owm_producer").with("--cities", cities)
    }

    async fn work_until_empty(&self) -> Finished {
        let worker = self.program("owm_worker").arg("--until-empty");
        worker.run().await.expect(0)
    }
}
