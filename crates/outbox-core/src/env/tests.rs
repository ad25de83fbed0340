use std::collections::HashSet;
use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::consume::{Consumer, ConsumerConfig, Worker, WorkerConfig};
use crate::delivery::Delivery;
use crate::error::ConfigError;
use crate::memory::{MemoryQueue, MemoryQueueConfig};
use crate::produce::ProducerConfig;
use crate::publish::{CompositeConfig, Strategy};
use crate::relay::RelayConfig;
use crate::time::SystemClock;

fn read(pairs: &[(&str, &str)]) -> Result<EnvConfig, ConfigError> {
    EnvConfig::from_pairs(pairs.iter().copied())
}

/// The problems, one line each, of variables that cannot be used.
fn problems(pairs: &[(&str, &str)]) -> Vec<String> {
    let error = read(pairs).unwrap_err();
    let line = |p: crate::error::ConfigProblem| format!("{}: {}", p.setting, p.problem);
    error.problems.into_iter().map(line).collect()
}

#[test]
fn an_environment_that_says_nothing_leaves_everything_to_the_defaults() {
    assert_eq!(read(&[]), Ok(EnvConfig::default()));
    assert_eq!(
        read(&[("PATH", "/bin"), ("HOME", "")]),
        Ok(EnvConfig::default())
    );
}

#[test]
fn values_are_typed_and_trimmed() {
    let env = read(&[
        ("SERVICE_NAME", "weather"),
        ("OUTBOX_PATH", " /var/lib/outbox.db "),
        ("OUTBOX_WORKER_COUNT", "2"),
        ("OUTBOX_MAX_RETRIES", "0"),
        ("OUTBOX_ENABLE_METRICS", "Yes"),
        ("OUTBOX_PUBLISHER_TYPE", "composite"),
        ("OUTBOX_COMPOSITE_STRATEGY", "primary"),
        ("OUTBOX_TIME_ZONE", "Europe/Stockholm"),
    ])
    .unwrap();
    assert_eq!(env.service_name.as_deref(), Some("weather"));
    assert_eq!(env.path, Some("/var/lib/outbox.db".into()));
    assert_eq!((env.worker_count, env.max_retries), (Some(2), Some(0)));
    assert_eq!(env.enable_metrics, Some(true));
    assert_eq!(env.publisher_type, Some(PublisherType::Composite));
    assert_eq!(env.composite_strategy, Some(Strategy::Primary));
    assert_eq!(env.time_zone.as_deref(), Some("Europe/Stockholm"));
}

#[test]
fn every_problem_is_told_at_once_by_the_variables_name() {
    let told = problems(&[
        ("OUTBOX_BATCH_SIZE", "many"),
        ("OUTBOX_LEASE", "5"),
        ("OUTBOX_PATH", " "),
        ("OUTBOX_PUBLISHER_TYPE", "kafka"),
        ("OUTBOX_POLL_INTERVALL", "5s"),
    ]);
    assert_eq!(
        told,
        [
            "OUTBOX_PATH: is empty, and so not a path",
            "OUTBOX_BATCH_SIZE: `many` is not a whole number from 1 to 100000",
            "OUTBOX_LEASE: `5` is not a duration of at least 10ms, such as 250ms, 5s, 10m, 1h or 7d",
            "OUTBOX_PUBLISHER_TYPE: `kafka` is not one of queue, event_bus, composite",
            "OUTBOX_POLL_INTERVALL: is not known; did you mean OUTBOX_POLL_INTERVAL?",
        ]
    );
}

#[test]
fn a_share_is_none_that_is_nothing_or_more_than_all() {
    for share in ["0", "101", "256", "5%", "-1", "half"] {
        let told = problems(&[("OUTBOX_BACKGROUND_SHARE", share), ("OUTBOX_LEASE", "5")]);
        let problem = "is not a whole number from 1 to 100";
        let expected = format!("OUTBOX_BACKGROUND_SHARE: `{share}` {problem}");
        assert_eq!((told.len(), &told[0]), (2, &expected));
    }
    for share in [1, 100] {
        let env = read(&[("OUTBOX_BACKGROUND_SHARE", &share.to_string())]);
        assert_eq!(env.unwrap().background_share, Some(share));
    }
}

#[test]
fn an_application_may_have_variables_of_its_own() {
    let pairs = [
        ("OUTBOX_CITIES", "cities.csv"),
        ("OUTBOX_CITYS", "cities.csv"),
    ];
    let error = EnvConfig::from_pairs_beside(pairs, &["OUTBOX_CITIES"]).unwrap_err();
    let told: Vec<_> = error.problems.iter().map(|p| p.problem.as_str()).collect();
    assert_eq!(told, ["is not known; did you mean OUTBOX_CITIES?"]);
}

#[test]
fn retention_is_given_as_a_duration_or_in_days_but_not_both() {
    let week = Some(Duration::from_secs(7 * 86_400));
    assert_eq!(read(&[("OUTBOX_RETENTION", "7d")]).unwrap().retention, week);
    assert_eq!(
        read(&[("OUTBOX_RETENTION_DAYS", "7")]).unwrap().retention,
        week
    );
    let both = [("OUTBOX_RETENTION", "7d"), ("OUTBOX_RETENTION_DAYS", "7")];
    assert_eq!(problems(&both).len(), 1);
}

#[test]
fn a_base_above_its_cap_is_a_problem() {
    let told = problems(&[("OUTBOX_BACKOFF_BASE", "2m"), ("OUTBOX_BACKOFF_CAP", "60s")]);
    assert_eq!(
        told,
        ["OUTBOX_BACKOFF_BASE: is longer than OUTBOX_BACKOFF_CAP"]
    );
}

#[cfg(unix)]
#[test]
fn a_value_that_is_not_unicode_is_a_problem_of_its_variable() {
    use std::os::unix::ffi::OsStringExt;
    let broken = OsString::from_vec(vec![0xff]);
    let error = EnvConfig::from_pairs([("OUTBOX_PATH", broken)]).unwrap_err();
    assert_eq!(
        error.problems[0].problem,
        "is not Unicode, and so not a path"
    );
}

#[test]
fn the_table_names_each_variable_once() {
    let names: HashSet<_> = VARIABLES.iter().map(|variable| variable.name).collect();
    assert_eq!(names.len(), VARIABLES.len());
}

/// What the table of variables says of their defaults, read as if somebody had set it.
fn stated_defaults() -> EnvConfig {
    let stated = |variable: &Variable| (variable.name, variable.default);
    let readable = VARIABLES.iter().map(stated).filter(|(name, default)| {
        *name != "OUTBOX_RETENTION_DAYS" && read(&[(*name, *default)]).is_ok()
    });
    EnvConfig::from_pairs(readable).unwrap()
}

#[test]
fn the_tables_defaults_are_those_of_the_configurations() {
    let env = stated_defaults();
    let (relay, worker) = (RelayConfig::default(), WorkerConfig::default());
    let consumer = ConsumerConfig::default();
    assert_eq!(env.batch_size, Some(relay.batch_ceiling));
    assert_eq!(env.batch_size, Some(worker.batch));
    assert_eq!(env.poll_interval, Some(relay.safety_poll));
    assert_eq!(env.poll_interval, Some(worker.safety_poll));
    assert_eq!(
        (env.lease, env.lease),
        (Some(relay.lease), Some(worker.lease))
    );
    assert_eq!(env.max_retries, Some(relay.retry.max_attempts - 1));
    assert_eq!(env.max_retries, Some(consumer.retry.max_attempts - 1));
    assert_eq!(env.backoff_base, Some(relay.retry.backoff.base));
    assert_eq!(env.backoff_cap, Some(relay.retry.backoff.cap));
    assert_eq!(env.breaker_max_failures, Some(relay.breaker.max_failures));
    assert_eq!(env.breaker_reset_timeout, Some(relay.breaker.reset_timeout));
    assert_eq!(
        env.breaker_max_reset_timeout,
        Some(relay.breaker.max_reset_timeout)
    );
    assert_eq!(
        env.composite_strategy,
        Some(CompositeConfig::default().strategy)
    );
    assert_eq!(env.publish_timeout, Some(relay.publish_timeout));
    assert_eq!(env.worker_count, Some(worker.concurrency));
    assert_eq!(env.prefetch, Some(worker.prefetch));
    assert_eq!(env.handler_timeout, Some(consumer.handler_timeout));
    assert_eq!(
        (env.grace_period, env.grace_period),
        (Some(relay.grace), Some(worker.grace))
    );
    assert_eq!(env.retention, Some(relay.retention));
}

#[test]
fn the_tables_defaults_of_each_pace_are_those_of_the_configurations() {
    let env = stated_defaults();
    let (relay, worker) = (RelayConfig::default(), WorkerConfig::default());
    let consumer = ConsumerConfig::default();
    assert_eq!(env.batch_floor, Some(relay.batch_floor));
    assert_eq!(env.target_latency, Some(relay.target_latency));
    assert_eq!(env.publish_concurrency, Some(relay.concurrency));
    assert_eq!(env.purge_interval, Some(relay.purge_interval));
    assert_eq!(env.purge_batch, Some(relay.purge_batch));
    assert_eq!(
        (env.hook_timeout, env.hook_timeout),
        (Some(relay.hook_timeout), Some(worker.hook_timeout))
    );
    assert_eq!(env.max_takeovers, Some(worker.max_takeovers));
    assert_eq!(env.breaker_enabled, Some(consumer.breaker.is_some()));
}

#[test]
fn what_the_environment_does_not_say_is_left_to_the_defaults() {
    let env = EnvConfig::default();
    assert_eq!(env.producer(), ProducerConfig::default());
    assert_eq!(env.relay(), RelayConfig::default());
    assert_eq!(env.consumer(), ConsumerConfig::default());
    assert_eq!(env.worker(), WorkerConfig::default());
}

#[test]
fn a_number_of_retries_comes_on_top_of_the_first_attempt() {
    let env = read(&[("OUTBOX_MAX_RETRIES", "0")]).unwrap();
    assert_eq!(env.relay().retry.max_attempts, 1);
    let env = read(&[("OUTBOX_MAX_RETRIES", "8")]).unwrap();
    assert_eq!(env.producer().retry.max_attempts, 9);
    assert_eq!(env.relay().retry.max_attempts, 9);
    assert_eq!(env.consumer().retry.max_attempts, 9);
}

#[test]
fn settings_reach_everyone_whom_they_are_about() {
    let env = read(&[
        ("OUTBOX_BATCH_SIZE", "50"),
        ("OUTBOX_POLL_INTERVAL", "5s"),
        ("OUTBOX_LEASE", "1m"),
        ("OUTBOX_BACKOFF_BASE", "1s"),
        ("OUTBOX_BACKOFF_CAP", "10m"),
        ("OUTBOX_CIRCUIT_BREAKER_MAX_FAILURES", "3"),
        ("OUTBOX_CIRCUIT_BREAKER_RESET_TIMEOUT", "2s"),
        ("OUTBOX_CIRCUIT_BREAKER_MAX_RESET_TIMEOUT", "4s"),
        ("OUTBOX_PUBLISH_TIMEOUT", "6s"),
        ("OUTBOX_WORKER_COUNT", "7"),
        ("OUTBOX_PREFETCH", "0"),
        ("OUTBOX_HANDLER_TIMEOUT", "8s"),
        ("OUTBOX_GRACE_PERIOD", "9s"),
        ("OUTBOX_RETENTION", "30d"),
    ])
    .unwrap();
    let (relay, consumer, worker) = (env.relay(), env.consumer(), env.worker());
    let seconds = Duration::from_secs;
    assert_eq!((relay.batch_ceiling, worker.batch), (50, 50));
    assert_eq!(env.producer().batch_size, 50);
    assert_eq!(
        (relay.safety_poll, worker.safety_poll),
        (seconds(5), seconds(5))
    );
    assert_eq!((relay.lease, worker.lease), (seconds(60), seconds(60)));
    assert_eq!(relay.retry.backoff.base, seconds(1));
    assert_eq!(relay.retry.backoff.cap, seconds(600));
    assert_eq!(relay.retry, consumer.retry);
    assert_eq!(relay.retry, env.producer().retry);
    assert_eq!(relay.breaker.max_failures, 3);
    assert_eq!(relay.breaker.reset_timeout, seconds(2));
    assert_eq!(relay.breaker.max_reset_timeout, seconds(4));
    assert_eq!(consumer.breaker, Some(relay.breaker));
    assert_eq!(relay.publish_timeout, seconds(6));
    assert_eq!((worker.concurrency, worker.prefetch), (7, 0));
    assert_eq!(consumer.handler_timeout, seconds(8));
    assert_eq!((relay.grace, worker.grace), (seconds(9), seconds(9)));
    assert_eq!(relay.retention, seconds(30 * 86_400));
}

#[test]
fn settings_for_the_pace_of_one_reach_that_one() {
    let env = read(&[
        ("OUTBOX_BATCH_FLOOR", "600"),
        ("OUTBOX_TARGET_LATENCY", "2ms"),
        ("OUTBOX_PUBLISH_CONCURRENCY", "4"),
        ("OUTBOX_PURGE_INTERVAL", "3s"),
        ("OUTBOX_PURGE_BATCH", "40"),
        ("OUTBOX_HOOK_TIMEOUT", "5ms"),
        ("OUTBOX_MAX_TAKEOVERS", "0"),
        ("OUTBOX_CIRCUIT_BREAKER_ENABLED", "off"),
        ("OUTBOX_KEEP_PUBLISHED", "on"),
        ("OUTBOX_BUSY_TIMEOUT", "7s"),
        ("OUTBOX_BACKGROUND_SHARE", "20"),
    ])
    .unwrap();
    let (relay, worker) = (env.relay(), env.worker());
    assert_eq!((relay.batch_floor, relay.batch_ceiling), (600, 600));
    assert_eq!(relay.target_latency, Duration::from_millis(2));
    assert_eq!((relay.concurrency, relay.purge_batch), (4, 40));
    assert_eq!(relay.purge_interval, Duration::from_secs(3));
    let hooks = (relay.hook_timeout, worker.hook_timeout);
    assert_eq!(hooks, (Duration::from_millis(5), Duration::from_millis(5)));
    assert_eq!(worker.max_takeovers, 0);
    assert_eq!(env.consumer().breaker, None);
    assert_eq!(env.keep_published, Some(true));
    assert_eq!(env.busy_timeout, Some(Duration::from_secs(7)));
    assert_eq!(env.background_share, Some(20));
}

#[test]
fn a_floor_above_its_ceiling_is_a_problem() {
    let told = problems(&[("OUTBOX_BATCH_FLOOR", "6"), ("OUTBOX_BATCH_SIZE", "5")]);
    assert_eq!(
        told,
        ["OUTBOX_BATCH_FLOOR: is greater than OUTBOX_BATCH_SIZE"]
    );
}

/// What is told where each variable for itself is set to `value`; the names of those that take it.
fn who_takes(value: &str) -> Vec<(&'static str, EnvConfig)> {
    let each = VARIABLES.iter().map(|variable| variable.name);
    each.filter_map(|name| Some((name, read(&[(name, value)]).ok()?)))
        .collect()
}

#[test]
fn whatever_a_variable_accepts_can_be_worked_with() {
    let queue = MemoryQueue::new(MemoryQueueConfig::default(), Arc::new(SystemClock));
    for value in ["1ms", "10ms", "7d", "0", "1", "16", "1000", "100000", "off"] {
        for (name, env) in who_takes(value) {
            let told = format!("{name}={value}");
            assert_eq!(env.relay().validate(), Ok(()), "{told}");
            assert_eq!(env.producer().validate(), Ok(()), "{told}");
            let handler = async |_: Delivery| Ok(());
            let consumer = Consumer::new(handler, env.consumer());
            let worker = Worker::new(Arc::new(queue.clone()), consumer, env.worker());
            assert!(worker.is_ok(), "{told}: {:?}", worker.err());
        }
    }
}

#[test]
fn a_handled_id_is_remembered_longer_than_it_may_be_sent_again() {
    let env = read(&[("OUTBOX_RETENTION", "30d"), ("OUTBOX_LEASE", "1m")]).unwrap();
    assert!(env.consumer().remember > env.relay().retention);
    assert!(env.consumer().claim_lease >= env.worker().lease);
}

#[test]
fn a_base_alone_is_not_cut_by_the_default_cap() {
    let env = read(&[("OUTBOX_BACKOFF_BASE", "5m")]).unwrap();
    assert_eq!(env.relay().retry.backoff.cap, Duration::from_secs(300));
}

#[test]
fn a_secret_is_read_and_never_shown() {
    let set = [
        ("OUTBOX_REDIS_URL", "redis://u:hush@host"),
        ("OUTBOX_REDIS_PASSWORD", "hush"),
    ];
    let env = read(&set).unwrap();
    assert_eq!(
        env.redis_url.as_ref().map(Secret::reveal),
        Some("redis://u:hush@host")
    );
    assert!(!format!("{env:?}").contains("hush"));
}

#[test]
fn a_user_needs_a_password() {
    let told = problems(&[("OUTBOX_REDIS_USER", "shop")]);
    assert_eq!(
        told,
        ["OUTBOX_REDIS_USER: needs OUTBOX_REDIS_PASSWORD beside it"]
    );
}

#[test]
fn variables_that_steer_tests_are_no_mistakes() {
    assert!(read(&[("OUTBOX_TEST_REDIS_URL", "redis://host")]).is_ok());
}
