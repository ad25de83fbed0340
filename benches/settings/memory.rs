use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use outbox::relay::{Relay, RelayConfig};
use outbox::signal::Shutdown;
use outbox::sqlite::{SqliteOutbox, SqliteStore, Synchronous};

use crate::Scale;
use crate::report::{Report, Target};
use crate::scene::{Counting, fill, fresh, open, proc_figure, remove, runtime};

/// After how many tenths of the messages memory is looked at.
const TENTHS: [usize; 5] = [2, 4, 6, 8, 10];

/// Resident memory of a process with a relay, over the drain of many messages.
pub(crate) fn over_the_run(scale: &Scale, report: &mut Report) {
    let count = scale.messages(100_000, 1_000_000);
    let path = fresh(scale, "memory");
    runtime().block_on(async {
        let store = open(scale, &path, Synchronous::Full).await;
        fill(&SqliteOutbox::on(&store), count).await;
    });
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--child", "memory"])
        .args([path.to_str().unwrap(), &count.to_string()])
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    remove(&path);
    let text = String::from_utf8(output.stdout).unwrap();
    let sizes: Vec<f64> = text.lines().map(|line| line.parse().unwrap()).collect();
    for (tenths, kib) in TENTHS.into_iter().zip(&sizes) {
        let variant = format!("relay, resident after {tenths}0 % of {count}, MiB");
        report.absolute("S-memory", &variant, kib / 1024.0, Target::AtMost(64.0));
    }
    let variant = "relay, resident at the end beside after 20 %";
    let ends = (sizes[TENTHS.len() - 1], sizes[0]);
    report.ratio("S-memory", variant, ends, Target::AtMost(1.1));
}

/// Drains what is in a file; prints the resident memory in KiB after each part.
pub(crate) fn child(arguments: &[String]) {
    let [path, count] = arguments else {
        panic!("a path and a number")
    };
    let count: usize = count.parse().unwrap();
    runtime().block_on(async {
        let outbox = SqliteOutbox::on(&SqliteStore::open(path).await.unwrap());
        let gate = Counting::until(count);
        let (outbox, publisher) = (Arc::new(outbox), Arc::new(gate.clone()));
        let relay = Relay::new(outbox, publisher, RelayConfig::default()).unwrap();
        let shutdown = Shutdown::new();
        let watch = async {
            for tenths in TENTHS {
                while gate.left() > count - count * tenths / 10 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                println!("{}", proc_figure("/proc/self/status", "VmRSS:"));
            }
            shutdown.trigger();
        };
        let (run, ()) = tokio::join!(relay.run(&shutdown), watch);
        run.unwrap();
    });
}
