//! What rings when the `-wal` file is written: the kernel where it can, else a clock.

use std::path::Path;
use std::time::Duration;

use tokio::runtime::Runtime;

/// How a wait for a [`Bell`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ring {
    /// It rang.
    Rang,
    /// It did not ring for so long.
    Silent,
    /// It never will again.
    Over,
}

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
    /// A bell at the database file at `path`, for the runtime in which this is called.
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

    /// Waits until it rings, or for so long. A clock rings soon, whatever is asked.
    pub(super) fn wait(&mut self, runtime: &Runtime, most: Option<Duration>) -> Ring {
        match self {
            #[cfg(target_os = "linux")]
            Self::Kernel(kernel) => runtime.block_on(kernel.wait(most)),
            Self::Clock(pause) => {
                std::thread::park_timeout(*pause);
                *pause = CLOCK.1.min(*pause * 2);
                Ring::Rang
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
    use std::time::Duration;

    use tokio::io::unix::AsyncFd;
    use tokio::time::timeout;

    use super::Ring;
    use inotify::{EventMask, Inotify, WatchDescriptor, WatchMask, Watches};

    /// The kernel's notices of one file.
    pub(crate) struct Kernel {
        inotify: AsyncFd<Inotify>,
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
            #[expect(
                deprecated,
                reason = "what replaces it is unsafe, for those whose descriptor may change"
            )]
            let inotify = AsyncFd::new(inotify)?;
            let buffer = vec![0; 4_096].into();
            Ok((Self { inotify, buffer }, Off { watches, watch }))
        }

        /// Waits for a notice, or for so long.
        pub(super) async fn wait(&mut self, most: Option<Duration>) -> Ring {
            let over = match most {
                None => self.read().await,
                Some(most) => match timeout(most, self.read()).await {
                    Ok(over) => over,
                    Err(_) => return Ring::Silent,
                },
            };
            // Whatever is wrong with the notices, there are none any more.
            match over {
                Ok(false) => Ring::Rang,
                Ok(true) | Err(_) => Ring::Over,
            }
        }

        /// Reads what notices there are, once there are any; whether the file is gone or the notices
        /// were ended.
        async fn read(&mut self) -> io::Result<bool> {
            loop {
                let mut ready = self.inotify.readable_mut().await?;
                let buffer = &mut self.buffer;
                let read = ready.try_io(|inotify| {
                    let mut events = inotify.get_mut().read_events(buffer)?;
                    Ok(events.any(|event| event.mask.contains(EventMask::IGNORED)))
                });
                match read {
                    Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                    Ok(over) => return over,
                    Err(_nothing_yet) => {}
                }
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
