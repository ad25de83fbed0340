use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

/// A program is given up after this long: something in it hangs.
const PATIENCE: Duration = Duration::from_secs(100);

/// An example, about to be run.
pub(crate) struct Program(Command);

impl Program {
    /// The example called `name`, in an environment without any of the library's variables.
    pub(crate) fn new(name: &str) -> Self {
        let mut command = Command::new(binary(name));
        let own = |variable: &OsStr| variable.to_string_lossy().starts_with("OUTBOX_");
        for (variable, _) in std::env::vars_os().filter(|(variable, _)| own(variable)) {
            command.env_remove(variable);
        }
        command.kill_on_drop(true).stdin(Stdio::null());
        Self(command)
    }

    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.0.arg(arg);
        self
    }

    /// A flag with its value.
    pub(crate) fn with(self, flag: &str, value: impl AsRef<OsStr>) -> Self {
        self.arg(flag).arg(value)
    }

    pub(crate) fn env(mut self, variable: &str, value: &str) -> Self {
        self.0.env(variable, value);
        self
    }

    /// Runs it under strace, which writes what `spec` asks for, as `trace=fdatasync`, to `log`, and
    /// injects faults into system calls, as `inject=fdatasync:error=EIO:when=3`.
    pub(crate) fn under_strace(self, specs: &[&str], log: &Path) -> Self {
        let mut strace = vec!["-f", "-qqq"];
        strace.extend(specs.iter().flat_map(|spec| ["-e", spec]));
        self.inside("strace", &strace, &[OsStr::new("-o"), log.as_os_str()])
    }

    /// Lets no file that it writes grow over so many KiB: the write that would is cut short.
    pub(crate) fn under_size_limit(self, kib: u64) -> Self {
        let script = "trap '' XFSZ; ulimit -f \"$0\"; exec \"$@\"";
        self.inside("bash", &["-c", script], &[OsStr::new(&kib.to_string())])
    }

    /// Runs it as the last arguments of another program.
    fn inside(self, program: &str, arguments: &[&str], more: &[&OsStr]) -> Self {
        let inner = self.0.as_std();
        let mut command = Command::new(program);
        command.args(arguments).args(more);
        command.arg(inner.get_program()).args(inner.get_args());
        for (variable, value) in inner.get_envs() {
            match value {
                Some(value) => command.env(variable, value),
                None => command.env_remove(variable),
            };
        }
        command.kill_on_drop(true).stdin(Stdio::null());
        Self(command)
    }

    /// Runs it to its end.
    pub(crate) async fn run(self) -> Finished {
        self.start().finish().await
    }

    /// Starts it; what it says is kept.
    pub(crate) fn start(mut self) -> Running {
        self.0.stdout(Stdio::piped()).stderr(Stdio::piped());
        Running(self.0.spawn().unwrap())
    }
}

/// Fails, and says what to do, where strace cannot inject faults here: a proof that is skipped is
/// none.
pub(crate) async fn require_strace() {
    let mut probe = Command::new("strace");
    probe.args([
        "-qqq",
        "-o",
        "/dev/null",
        "-e",
        "inject=fdatasync:error=EIO",
        "true",
    ]);
    let ended = probe.status().await;
    assert!(
        ended.as_ref().is_ok_and(ExitStatus::success),
        "strace cannot trace here ({ended:?}): install it (apt-get install strace) and allow ptrace \
         (containers: --cap-add SYS_PTRACE; hosts: kernel.yama.ptrace_scope at most 1)"
    );
}

/// Where cargo puts examples: beside the folder that this test was put into.
fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(|deps| deps.parent()).unwrap();
    let binary = profile.join("examples").join(name);
    let missing = binary.display();
    assert!(
        binary.exists(),
        "{missing} is missing; build it first: cargo build --examples --all-features"
    );
    binary
}

/// A program that runs; killed where it is dropped.
pub(crate) struct Running(Child);

impl Running {
    /// Sends it a signal, as `TERM`, `STOP` or `CONT`.
    pub(crate) async fn signal(&self, name: &str) {
        let Some(id) = self.0.id() else { return };
        // The shell's own: small systems have no program of that name.
        let mut kill = Command::new("sh");
        kill.args(["-c", "kill -s \"$0\" \"$1\"", name, &id.to_string()]);
        assert!(kill.status().await.unwrap().success());
    }

    /// Kills it, as `kill -9` does; `false` where it had ended already.
    pub(crate) async fn kill(mut self) -> bool {
        let alive = self.0.try_wait().unwrap().is_none();
        self.0.kill().await.unwrap();
        alive
    }

    /// Waits up to `limit` for its end.
    pub(crate) async fn ends_within(&mut self, limit: Duration) -> Option<ExitStatus> {
        let ended = tokio::time::timeout(limit, self.0.wait()).await;
        ended.ok().map(Result::unwrap)
    }

    /// Waits for its end.
    pub(crate) async fn finish(mut self) -> Finished {
        let (mut told, mut complained) = (Vec::new(), Vec::new());
        let (out, err) = (self.0.stdout.take(), self.0.stderr.take());
        let ended = async {
            let (_, _, ended) = tokio::join!(
                read(out, &mut told),
                read(err, &mut complained),
                self.0.wait()
            );
            ended.unwrap()
        };
        let ended = tokio::time::timeout(PATIENCE, ended).await;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let finished = Finished {
            code: ended.as_ref().ok().and_then(ExitStatus::code),
            told: text(&told),
            complained: text(&complained),
        };
        let threads = || self.0.id().map_or(String::new(), threads);
        assert!(ended.is_ok(), "it hangs: {finished:#?}\n{}", threads());
        finished
    }
}

/// Reads to the end what a program says, as far as it comes.
async fn read(pipe: Option<impl AsyncRead + Unpin>, into: &mut Vec<u8>) {
    let mut pipe = pipe.expect("its output is not kept");
    pipe.read_to_end(into).await.unwrap();
}

/// What each thread of a process waits for in the kernel.
fn threads(process: u32) -> String {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).into_iter();
    let about = |thread: PathBuf| {
        let file = |name| std::fs::read_to_string(thread.join(name)).unwrap_or_default();
        format!(
            "{} {} {}",
            file("comm").trim(),
            file("wchan"),
            file("syscall")
        )
    };
    let threads = threads.flatten().flatten();
    threads.map(|entry| about(entry.path())).collect()
}

/// What a program has left.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    /// Its standard output.
    pub(crate) told: String,
    /// Its standard error.
    pub(crate) complained: String,
}

impl Finished {
    /// Itself, where it ended with `code`.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}\n{}", self.told, self.complained);
        self
    }

    /// The figures in the last line, which is JSON.
    #[track_caller]
    pub(crate) fn figures(&self) -> Value {
        let line = self.told.lines().last().expect("no output");
        serde_json::from_str(line).expect("the last line is no JSON")
    }

    /// One of the figures that are counts.
    #[track_caller]
    pub(crate) fn count(&self, name: &str) -> u64 {
        self.figures()[name].as_u64().expect("no such count")
    }
}
