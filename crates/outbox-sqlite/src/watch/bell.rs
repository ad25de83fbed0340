//! What rings when the `-wal` file is written: the kernel where it can, else a clock.

use std::path::Path;
use std::time::Duration;

/// The shortest and the longest pause where only a clock rings.
const CLOCK: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(50));

/// Rings when somebody may have committed.
pub(super) enum Bell {
    /// The kernel rings.
    #[cfg(target_os = "linux")]
    Kernel(kernel::Kernel),
    /// A clock rings, again and again.
    Clock(Duration),
}

/// Makes a waiting [`Bell`] ring for the last time.
pub(super) struct Silencer(#[cfg(target_os = "linux")] Option<kernel::Off>);

impl Bell {
    /// A bell at the database file at `path`.
    #[cfg(target_os = "linux")]
    pub(super) fn hang(path: &Path) -> (Self, Silencer) {
        match kernel::Kernel::at(path) {
            Ok((kernel, off)) => (Self::Kernel(kernel), Silencer(Some(off))),
            Err(error) => {
                tracing::warn!(%error, "the -wal file cannot be watched: asking every 5 to 50 ms");
                (Self::Clock(CLOCK.0), Silencer(None))
            }
        }
    }

    /// A bell at the database file at `path`.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn hang(_path: &Path) -> (Self, Silencer) {
        (Self::Clock(CLOCK.0), Silencer())
    }

    /// Waits until it rings; `false` where it never will again.
    pub(super) fn wait(&mut self) -> bool {
        match self {
            #[cfg(target_os = "linux")]
            Self::Kernel(kernel) => kernel.wait(),
            Self::Clock(pause) => {
                std::thread::park_timeout(*pause);
                *pause = CLOCK.1.min(*pause * 2);
                true
            }
        }
    }

    /// Hears that the last ring was right: where somebody commits, more commits follow soon.
    pub(super) fn praise(&mut self) {
        if let Self::Clock(pause) = self {
            *pause = CLOCK.0;
        }
    }

    /// How often to look after a ring: a clock knows nothing, so one look is enough.
    pub(super) fn looks(&self, most: u32) -> u32 {
        match self {
            #[cfg(target_os = "linux")]
            Self::Kernel(_) => most,
            Self::Clock(_) => 1,
        }
    }
}

impl Silencer {
    pub(super) fn silence(&mut self) {
        #[cfg(target_os = "linux")]
        if let Some(off) = self.0.take() {
            off.switch();
        }
    }
}

#[cfg(target_os = "linux")]
mod kernel {
    use std::io;
    use std::path::Path;

    use inotify::{EventMask, Inotify, WatchDescriptor, WatchMask, Watches};

    /// The kernel's notices of one file.
    pub(crate) struct Kernel {
        inotify: Inotify,
        buffer: Box<[u8]>,
    }

    /// Ends the notices.
    pub(crate) struct Off {
        watches: Watches,
        watch: WatchDescriptor,
    }

    impl Kernel {
        /// SQLite follows symbolic links before it names the `-wal` file.
        pub(super) fn at(path: &Path) -> io::Result<(Self, Off)> {
            let mut wal = path.canonicalize()?.into_os_string();
            wal.push("-wal");
            let inotify = Inotify::init()?;
            let mut watches = inotify.watches();
            let watch = watches.add(wal, WatchMask::MODIFY)?;
            let buffer = vec![0; 4_096].into();
            Ok((Self { inotify, buffer }, Off { watches, watch }))
        }

        /// Waits for a notice; `false` once the file is gone or the notices were ended.
        pub(super) fn wait(&mut self) -> bool {
            let over = |mask: EventMask| mask.contains(EventMask::IGNORED);
            match self.inotify.read_events_blocking(&mut self.buffer) {
                Ok(mut events) => !events.any(|event| over(event.mask)),
                Err(error) => error.kind() == io::ErrorKind::Interrupted,
            }
        }
    }

    impl Off {
        /// Taking the watch away is a notice as well, so that who waits for one wakes.
        pub(super) fn switch(mut self) {
            // Where the file is gone, so is the watch, and nobody waits for it.
            let _ = self.watches.remove(self.watch);
        }
    }
}
