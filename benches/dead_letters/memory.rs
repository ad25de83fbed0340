use std::process::Command;

use outbox::signal::Shutdown;
use outbox::sqlite::{SqliteStore, Synchronous};

use super::ID;
use super::given::{Dead, failed};
use crate::Scale;
use crate::report::{Report, Target};
use crate::scene::{fresh, open, proc_figure, remove, runtime};

/// The peak of resident memory of a process that moves messages into quarantine and sends them back, by
/// how many they are: what is bounded stays the same from some number on.
pub(crate) fn peak(scale: &Scale, report: &mut Report) {
    let few = scale.messages(1_000, 10_000);
    let peaks = [few, few * 10, few * 30].map(|count| {
        let peak = of(scale, count);
        let variant = format!("{count} quarantined and redriven, peak MiB");
        report.absolute(ID, &variant, peak, Target::AtMost(64.0));
        peak
    });
    let times = [
        "ten times as many messages",
        "and three times as many again",
    ];
    for (what, peaks) in times.iter().zip(peaks.windows(2)) {
        let variant = format!("that peak, {what}");
        report.ratio(ID, &variant, (peaks[1], peaks[0]), Target::AtMost(1.1));
    }
}

/// The peak in MiB for `count` messages, in a process that did nothing else.
fn of(scale: &Scale, count: usize) -> f64 {
    let path = fresh(scale, "dlq-memory");
    runtime().block_on(async {
        let store = open(scale, &path, Synchronous::Full).await;
        failed(&store, &Dead::letters(&store), count, 0).await;
    });
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--child", "dead letters"])
        .args([path.to_str().unwrap(), &count.to_string()])
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    remove(&path);
    let kib: f64 = String::from_utf8(output.stdout)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    kib / 1024.0
}

/// Quarantines and redrives what failed in a file; prints the peak of resident memory in KiB.
pub(crate) fn child(arguments: &[String]) {
    let [path, count] = arguments else {
        panic!("a path and a number")
    };
    let count: u64 = count.parse().unwrap();
    runtime().block_on(async {
        let store = SqliteStore::open(path).await.unwrap();
        let dead = Dead::letters(&store);
        assert_eq!(dead.quarantine_all().await, count);
        assert_eq!(dead.redrive_all(None, &Shutdown::new()).await, count);
    });
    println!("{}", proc_figure("/proc/self/status", "VmHWM:"));
}
