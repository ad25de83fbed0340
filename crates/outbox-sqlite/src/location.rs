//! Where the database file lies: whether it is still there, and whether it lies well.

use std::path::Path;

use crate::error::Fault;

/// Which file a path named when the store was opened.
///
/// SQLite goes on writing to a file that was deleted under it, and answers that all is well: every
/// commit after that is lost. So each write first makes sure that the path still names the file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FileIdentity {
    #[cfg(unix)]
    device_and_inode: (u64, u64),
}

impl FileIdentity {
    /// The file that `path` names now; looks at the folder only and never opens the file, because
    /// closing it again would drop the locks that SQLite holds on it in this process.
    #[cfg(unix)]
    pub(crate) fn of(path: &Path) -> std::io::Result<Self> {
        use std::os::unix::fs::MetadataExt;
        let metadata = std::fs::metadata(path)?;
        Ok(Self {
            device_and_inode: (metadata.dev(), metadata.ino()),
        })
    }

    /// Elsewhere an open file cannot be deleted.
    #[cfg(not(unix))]
    pub(crate) fn of(_path: &Path) -> std::io::Result<Self> {
        Ok(Self {})
    }

    /// Makes sure that `path` still names this file.
    pub(crate) fn verify(&self, path: &Path) -> Result<(), Fault> {
        match Self::of(path) {
            Ok(now) if now == *self => Ok(()),
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Err(Fault::Deleted),
        }
    }
}

/// File systems that are shared by hosts, where WAL does not work.
const NETWORK: [&str; 9] = [
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "9p",
    "fuse.sshfs",
    "glusterfs",
    "ceph",
];

/// Warns where the file may be swept away or shared by hosts.
pub(crate) fn warn_of_risks(path: &Path) {
    let Ok(path) = path.canonicalize() else {
        return;
    };
    if ["/tmp", "/var/tmp", "/dev/shm"]
        .iter()
        .any(|folder| path.starts_with(folder))
    {
        tracing::warn!(path = %path.display(), "the outbox lies in a folder that is swept or lost at reboot");
    }
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    if let Some(kind) = file_system(&mounts, &path).filter(|kind| NETWORK.contains(kind)) {
        tracing::warn!(path = %path.display(), kind, "the outbox lies on a network file system, where SQLite's WAL is not safe");
    }
}

/// The kind of the file system that holds `path`, by the lines of a mount table.
fn file_system<'a>(mounts: &'a str, path: &Path) -> Option<&'a str> {
    mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ').skip(1);
            Some((Path::new(fields.next()?), fields.next()?))
        })
        .filter(|(mounted_at, _)| path.starts_with(mounted_at))
        .max_by_key(|(mounted_at, _)| mounted_at.components().count())
        .map(|(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_mount_tells_the_kind_of_the_file_system() {
        let mounts =
            "/dev/a / ext4 rw 0 0\nhost:/x /srv nfs4 rw 0 0\n/dev/b /srv/local xfs rw 0 0\n";
        let kind = |path| file_system(mounts, Path::new(path));
        assert_eq!(kind("/home/outbox.db"), Some("ext4"));
        assert_eq!(kind("/srv/outbox.db"), Some("nfs4"));
        assert_eq!(kind("/srv/local/outbox.db"), Some("xfs"));
        assert_eq!(kind("/srvx/outbox.db"), Some("ext4"));
    }

    #[test]
    fn a_replaced_file_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "1").unwrap();
        let identity = FileIdentity::of(&path).unwrap();
        assert!(identity.verify(&path).is_ok());
        std::fs::write(folder.path().join("other"), "2").unwrap();
        std::fs::rename(folder.path().join("other"), &path).unwrap();
        assert!(matches!(identity.verify(&path), Err(Fault::Deleted)));
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(identity.verify(&path), Err(Fault::Deleted)));
    }
}
