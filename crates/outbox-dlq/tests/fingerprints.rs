//! Fingerprints stay what they are: operators and dashboards remember them.

use outbox_dlq::Fingerprint;

const VECTORS: &str = include_str!("fingerprints.txt");

#[test]
fn fingerprints_are_stable() {
    let lines = VECTORS.lines().filter(|line| !line.starts_with('#'));
    let mut count = 0;
    for line in lines {
        let mut parts = line.splitn(4, '\t');
        let mut part = || parts.next().unwrap_or_default();
        let (wanted, error_kind, kind, error) = (part(), part(), part(), part());
        let found = Fingerprint::of(error_kind, kind, error).to_string();
        assert_eq!(found, wanted, "{error_kind}\t{kind}\t{error}");
        count += 1;
    }
    assert!(count >= 10, "{count} vectors");
}
