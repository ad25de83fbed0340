//! The servers: started on free ports of the loopback address, each in a folder of its own, and
//! stopped when they are dropped, or by the kernel when this program dies.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::Problem;
use crate::plan::{Item, Place};

/// How long a server may take to start.
const PATIENCE: Duration = Duration::from_secs(30);

/// The user that PostgreSQL's package makes; PostgreSQL refuses to run as root.
const POSTGRES_USER: &str = "postgres";

/// Fails with everything that is missing, and how to get it.
pub(crate) fn all_there(items: &[Item], programs: &Path) -> Result<(), Problem> {
    let sides = || items.iter().flat_map(|item| &item.sides);
    let mut missing = Vec::new();
    for side in sides() {
        let program = programs.join(side.who.program());
        if !program.is_file() {
            missing.push(format!(
                "{} is not built; `just peers` does",
                program.display()
            ));
        }
    }
    if sides().any(|side| side.broker || side.place == Place::Redis) {
        need(&mut missing, "redis-server", "redis-server");
    }
    if sides().any(|side| side.place == Place::Postgres) {
        for program in ["initdb", "postgres", "pg_ctl", "pg_isready"] {
            need(&mut missing, program, "postgresql");
        }
    }
    need(&mut missing, "setpriv", "util-linux");
    missing.dedup();
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!("cannot compare:\n  {}", missing.join("\n  ")).into())
}

fn need(missing: &mut Vec<String>, program: &str, package: &str) {
    if find(program).is_none() {
        missing.push(format!(
            "{program} is missing; on Debian or Ubuntu: apt-get install {package}"
        ));
    }
}

/// Where a program is: on the path, or where Debian keeps those of PostgreSQL.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    versions.sort();
    folders.extend(versions.iter().rev().map(|version| version.join("bin")));
    folders
        .iter()
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// What a server tells as its version.
pub(crate) fn version(program: &str) -> Option<String> {
    let output = Command::new(find(program)?)
        .arg("--version")
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    Some(text.trim().to_owned())
}

/// A command for a server's program that ends when this program does; as another user where one
/// is named.
fn server(program: &str, user: Option<&str>) -> Result<Command, Problem> {
    let file = find(program).ok_or_else(|| format!("{program} is missing"))?;
    let mut command = Command::new("setpriv");
    command.arg("--pdeathsig=INT");
    if let Some(user) = user {
        command.args([
            format!("--reuid={user}"),
            format!("--regid={user}"),
            "--init-groups".to_owned(),
        ]);
    }
    command.arg("--").arg(file);
    command.stdin(Stdio::null());
    Ok(command)
}

fn free_port() -> Result<u16, Problem> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?.port())
}

/// Waits until a server answers; fails when it ends before, or takes too long.
fn wait_for(child: &mut Child, name: &str, mut up: impl FnMut() -> bool) -> Result<(), Problem> {
    let started = Instant::now();
    while !up() {
        if let Some(status) = child.try_wait()? {
            return Err(format!("{name} did not start: {status}").into());
        }
        if started.elapsed() > PATIENCE {
            return Err(format!("{name} did not start within {PATIENCE:?}").into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// A Redis that keeps nothing on disk.
pub(crate) struct Redis {
    child: Child,
    pub(crate) address: String,
}

impl Redis {
    pub(crate) fn start(folder: &Path) -> Result<Self, Problem> {
        let port = free_port()?;
        let child = server("redis-server", None)?
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no", "--dir"])
            .arg(folder)
            .stdout(Stdio::null())
            .spawn()?;
        let mut redis = Self {
            child,
            address: format!("redis://127.0.0.1:{port}"),
        };
        let up = || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok();
        wait_for(&mut redis.child, "redis-server", up)?;
        Ok(redis)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A PostgreSQL with `fsync` on.
pub(crate) struct Postgres {
    child: Child,
    data: PathBuf,
    user: Option<&'static str>,
    pub(crate) address: String,
    /// Removed after the server has ended.
    _folder: TempDir,
}

impl Postgres {
    pub(crate) fn start(dir: &Path) -> Result<Self, Problem> {
        let folder = tempfile::Builder::new()
            .prefix("peers-postgres-")
            .tempdir_in(dir)?;
        let user = match std::fs::metadata("/proc/self")?.uid() {
            0 => Some(POSTGRES_USER),
            _ => None,
        };
        if let Some(user) = user {
            chown(
                folder.path(),
                Some(number("-u", user)?),
                Some(number("-g", user)?),
            )?;
        }
        let data = folder.path().join("data");
        initialise(&data, user)?;
        let port = free_port()?;
        let child = spawn(&data, port, user)?;
        let mut postgres = Self {
            child,
            data,
            user,
            address: format!("postgres://peers@127.0.0.1:{port}/postgres"),
            _folder: folder,
        };
        wait_for(&mut postgres.child, "postgres", || is_ready(port))?;
        Ok(postgres)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let stopped = server("pg_ctl", self.user).and_then(|mut command| {
            command.args(["stop", "--mode=fast", "--silent", "-D"]);
            Ok(command.arg(&self.data).status()?.success())
        });
        if !stopped.unwrap_or(false) {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

/// A user's or a group's number.
fn number(what: &str, user: &str) -> Result<u32, Problem> {
    let output = Command::new("id").args([what, user]).output()?;
    if !output.status.success() {
        let problem = format!("run as root, but there is no user {user} to run PostgreSQL as");
        return Err(problem.into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().parse()?)
}

fn initialise(data: &Path, user: Option<&str>) -> Result<(), Problem> {
    let output = server("initdb", user)?
        .args(["--username=peers", "--auth=trust", "--encoding=UTF8", "-D"])
        .arg(data)
        .output()?;
    if !output.status.success() {
        let told = String::from_utf8_lossy(&output.stderr);
        return Err(format!("initdb failed: {}", told.trim()).into());
    }
    Ok(())
}

fn spawn(data: &Path, port: u16, user: Option<&str>) -> Result<Child, Problem> {
    let log = File::create(data.with_file_name("log"))?;
    let settings = [
        "listen_addresses=127.0.0.1",
        "unix_socket_directories=",
        "fsync=on",
        "synchronous_commit=on",
        "shared_buffers=512MB",
        "max_wal_size=4GB",
    ];
    let mut command = server("postgres", user)?;
    command.arg("-D").arg(data).args(["-p", &port.to_string()]);
    for setting in settings {
        command.args(["-c", setting]);
    }
    Ok(command.stdout(log.try_clone()?).stderr(log).spawn()?)
}

fn is_ready(port: u16) -> bool {
    let Some(program) = find("pg_isready") else {
        return false;
    };
    Command::new(program)
        .args(["-q", "-h", "127.0.0.1", "-p", &port.to_string()])
        .status()
        .is_ok_and(|status| status.success())
}
