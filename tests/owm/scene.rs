use std::path::Path;

use tempfile::{TempDir, tempdir};

use crate::support::{File, Finished, Program, made_up_cities};

/// A folder with a file for outbox and queue, and a list of cities.
pub(crate) struct Scene {
    folder: TempDir,
    pub(crate) file: File,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let folder = tempdir().unwrap();
        let file = File::in_folder(folder.path());
        Self { folder, file }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn program(&self, name: &str) -> Program {
        Program::new(name)
            .arg("--json")
            .with("--outbox", self.file.path())
    }

    /// The cron job over `count` cities.
    pub(crate) fn producer(&self, count: usize) -> Program {
        let cities = made_up_cities(self.folder(), count, 7);
        self.program("owm_producer").with("--cities", cities)
    }

    pub(crate) async fn work_until_empty(&self) -> Finished {
        let worker = self.program("owm_worker").arg("--until-empty");
        worker.run().await.expect(0)
    }
}
