use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use super::nearest::nearest;
use super::parse;
use super::secret::Secret;
use crate::error::ConfigError;
use crate::publish::Strategy;

/// What names of this system's variables begin with.
const PREFIX: &str = "OUTBOX_";

/// What names of variables begin with that steer tests; programs under test inherit them.
const TEST_PREFIX: &str = "OUTBOX_TEST_";

/// The publishers that can be chosen by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PublisherType {
    /// [`crate::publish::QueuePublisher`], as `queue`.
    Queue,
    /// [`crate::publish::EventBus`], as `event_bus`.
    EventBus,
    /// [`crate::publish::CompositePublisher`], as `composite`.
    Composite,
}

/// One environment variable, as the documentation tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variable {
    /// The variable's name.
    pub name: &'static str,
    /// What values it takes.
    pub form: &'static str,
    /// What holds where it is not set.
    pub default: &'static str,
    /// What it sets.
    pub meaning: &'static str,
}

const DURATION: &str = "a duration such as 250ms, 5s, 10m, 1h or 7d";
const PACE: &str = "a duration of at least 10ms, such as 250ms, 5s, 10m, 1h or 7d";
const COUNT: &str = "a whole number from 1 to 100000";
const POSITIVE: &str = "a whole number, at least 1";
const SWITCH: &str = "true or false";
const OWN: &str = "the application's own";

macro_rules! variables {
    ($(
        $field:ident: $type:ty = $parse:expr,
        $name:literal, $form:expr, $default:expr, $meaning:literal;
    )*) => {
        /// What the environment says, where it says anything; what it does not say is left to the
        /// defaults of those who are configured.
        ///
        /// ```
        /// use outbox_core::env::EnvConfig;
        /// use std::time::Duration;
        ///
        /// let set = [("OUTBOX_BATCH_SIZE", "50"), ("OUTBOX_POLL_INTERVAL", "5s")];
        /// let env = EnvConfig::from_pairs(set).unwrap();
        /// assert_eq!(env.batch_size, Some(50));
        /// assert_eq!(env.poll_interval, Some(Duration::from_secs(5)));
        /// assert_eq!(env.max_retries, None);
        ///
        /// let slips = [("OUTBOX_BATCHSIZE", "50"), ("OUTBOX_POLL_INTERVAL", "5")];
        /// let error = EnvConfig::from_pairs(slips).unwrap_err().to_string();
        /// assert!(error.contains("OUTBOX_POLL_INTERVAL: `5` is not a duration"));
        /// assert!(error.contains("did you mean OUTBOX_BATCH_SIZE?"));
        /// ```
        #[derive(Clone, Debug, Default, PartialEq)]
        #[doc(alias = "OutboxServiceConfig")]
        pub struct EnvConfig {
            $(#[doc = $meaning] #[doc = concat!("`", $name, "`.")] #[doc(alias = $name)]
            pub $field: Option<$type>,)*
        }

        /// Every variable that [`EnvConfig`] reads, in the order of its fields.
        pub const VARIABLES: &[Variable] = &[
            $(Variable { name: $name, form: $form, default: $default, meaning: $meaning },)*
        ];

        impl EnvConfig {
            fn read(found: &BTreeMap<OsString, OsString>, problems: &mut ConfigError) -> Self {
                Self {
                    $($field: take(found, $name, $form, $parse, problems),)*
                }
            }
        }
    };
}

variables! {
    service_name: String = parse::text, "SERVICE_NAME", "a text", "none",
        "The name of the service, for logs and metrics.";
    path: PathBuf = parse::path, "OUTBOX_PATH", "a path", OWN,
        "The file of an embedded outbox.";
    max_connections: u32 = |text| parse::number(text, 1..=1_000), "OUTBOX_MAX_CONNECTIONS",
        "a whole number from 1 to 1000", "the backend's own",
        "The most connections in a backend's pool.";
    busy_timeout: Duration = parse::duration, "OUTBOX_BUSY_TIMEOUT", DURATION, "5s",
        "How long a call waits for another writer of an embedded outbox before it fails as transient.";
    background_share: u8 = |text| parse::number(text, 1..=100), "OUTBOX_BACKGROUND_SHARE",
        "a whole number from 1 to 100", "2",
        "How many percent of the time work in the background, such as moving dead letters, may write \
         to an embedded outbox while others in the process write too.";
    keep_published: bool = parse::switch, "OUTBOX_KEEP_PUBLISHED", SWITCH, "the backend's own",
        "Whether published messages stay in the outbox for the retention, so that they can be \
         published again.";
    redis_url: Secret = |text| parse::text(text).map(Secret::new), "OUTBOX_REDIS_URL",
        "a URL such as redis://host:6379", "none",
        "The Redis server, cluster or Sentinel group; it may hold a user and a password.";
    redis_user: String = parse::text, "OUTBOX_REDIS_USER", "a text", "the default user",
        "The user that the password belongs to.";
    redis_password: Secret = |text| parse::text(text).map(Secret::new), "OUTBOX_REDIS_PASSWORD",
        "a text", "that of the URL", "The password of the user; it goes before that of the URL.";
    redis_prefix: String = parse::text, "OUTBOX_REDIS_PREFIX", "a text", "outbox",
        "What the names of all keys in Redis begin with.";
    redis_authorities: PathBuf = parse::path, "OUTBOX_REDIS_AUTHORITIES", "a path",
        "those whom the system trusts",
        "The file, in PEM form, of those who may have signed the certificate of the Redis server.";
    redis_timeout: Duration = parse::duration, "OUTBOX_REDIS_TIMEOUT", DURATION, "3s",
        "How long a command to Redis may take before it fails as transient.";
    batch_size: usize = |text| parse::number(text, 1..=100_000), "OUTBOX_BATCH_SIZE", COUNT, "500",
        "The most messages that are claimed, published or submitted at once.";
    batch_floor: usize = |text| parse::number(text, 1..=100_000), "OUTBOX_BATCH_FLOOR", COUNT, "16",
        "The smallest batch that slow publishing shrinks to.";
    target_latency: Duration = parse::duration, "OUTBOX_TARGET_LATENCY", DURATION, "500ms",
        "How long a call to a publisher should take: batches shrink above it and grow below.";
    publish_concurrency: usize = |text| parse::number(text, 1..=1_000),
        "OUTBOX_PUBLISH_CONCURRENCY", "a whole number from 1 to 1000", "1",
        "How many calls to a publisher are in flight at once for each destination.";
    poll_interval: Duration = parse::pace, "OUTBOX_POLL_INTERVAL", PACE, "30s",
        "How often an idle relay or worker looks for work although nothing woke it.";
    lease: Duration = parse::pace, "OUTBOX_LEASE", PACE, "3s",
        "How long work is leased unless the lease is extended: a bound on the time until another \
         takes over from one that died.";
    max_retries: u32 = |text| parse::number(text, 0..=1_000), "OUTBOX_MAX_RETRIES",
        "a whole number from 0 to 1000", "7",
        "How often a message is tried again after its first failure, before quarantine.";
    backoff_base: Duration = parse::duration, "OUTBOX_BACKOFF_BASE", DURATION, "200ms",
        "The greatest delay before the first retry; it doubles with each further one.";
    backoff_cap: Duration = parse::duration, "OUTBOX_BACKOFF_CAP", DURATION, "60s",
        "The greatest delay before any retry.";
    breaker_enabled: bool = parse::switch, "OUTBOX_CIRCUIT_BREAKER_ENABLED", SWITCH, "true",
        "Whether a consumer leaves its handler alone while that keeps failing; a relay always \
         leaves a failing destination alone.";
    breaker_max_failures: u32 = |text| parse::number(text, 1..=u32::MAX),
        "OUTBOX_CIRCUIT_BREAKER_MAX_FAILURES", POSITIVE, "5",
        "The failures in a row after which a destination is left alone for a while.";
    breaker_reset_timeout: Duration = parse::pace, "OUTBOX_CIRCUIT_BREAKER_RESET_TIMEOUT",
        PACE, "1s", "How long a failing destination is left alone before one trial.";
    breaker_max_reset_timeout: Duration = parse::duration,
        "OUTBOX_CIRCUIT_BREAKER_MAX_RESET_TIMEOUT", DURATION, "30s",
        "The longest time that a destination is left alone; the time doubles with each failure.";
    publisher_type: PublisherType = parse::publisher_type, "OUTBOX_PUBLISHER_TYPE",
        "one of queue, event_bus, composite", OWN, "Where messages are published to.";
    composite_strategy: Strategy = parse::strategy, "OUTBOX_COMPOSITE_STRATEGY",
        "one of all, any, primary", "all",
        "Which destinations of a composite publisher must have a message.";
    publish_timeout: Duration = parse::pace, "OUTBOX_PUBLISH_TIMEOUT", PACE, "10s",
        "When a call to a publisher counts as hanging.";
    stream: String = parse::text, "OUTBOX_STREAM", "a text", OWN,
        "The name of the queue that tasks go through.";
    high_water_mark: u64 = |text| parse::number(text, 1..=u64::MAX), "OUTBOX_HIGH_WATER_MARK",
        POSITIVE, "the queue's own",
        "The most entries in a queue; what is over it waits in the outbox.";
    dedup_window: Duration = parse::duration, "OUTBOX_DEDUP_WINDOW", DURATION, "the queue's own",
        "How long a queue remembers the ids of messages, so that sending one again adds nothing.";
    worker_count: usize = |text| parse::number(text, 1..=100_000), "OUTBOX_WORKER_COUNT", COUNT,
        "32", "How many deliveries a worker handles at once.";
    prefetch: usize = |text| parse::number(text, 0..=100_000), "OUTBOX_PREFETCH",
        "a whole number from 0 to 100000", "64",
        "How many deliveries a worker holds ready beyond those that it handles.";
    handler_timeout: Duration = parse::pace, "OUTBOX_HANDLER_TIMEOUT", PACE, "30s",
        "When a handler counts as hanging.";
    max_takeovers: u32 = |text| parse::number(text, 0..=1_000), "OUTBOX_MAX_TAKEOVERS",
        "a whole number from 0 to 1000", "5",
        "How often in a row a delivery may be taken over from workers that died with it before it \
         goes to quarantine.";
    hook_timeout: Duration = parse::duration, "OUTBOX_HOOK_TIMEOUT", DURATION, "5s",
        "How long a listener to what relays and workers do may take for one report.";
    daily_limit: u32 = |text| parse::number(text, 1..=u32::MAX), "OUTBOX_DAILY_LIMIT",
        POSITIVE, "none",
        "How many deliveries may be handled in a calendar day.";
    time_zone: String = parse::time_zone, "OUTBOX_TIME_ZONE",
        "a time zone of the tz database such as Europe/Stockholm", "UTC",
        "Whose calendar day the daily limit counts.";
    limiter_timeout: Duration = parse::duration, "OUTBOX_LIMITER_TIMEOUT", DURATION, "250ms",
        "How long a limiter's server may take before it counts as away.";
    limiter_ceiling: u32 = |text| parse::number(text, 1..=1_000_000), "OUTBOX_LIMITER_CEILING",
        "a whole number from 1 to 1000000", "none: nothing is handled",
        "How many deliveries each process may handle a minute while the limiter's server is away.";
    grace_period: Duration = parse::duration, "OUTBOX_GRACE_PERIOD", DURATION, "10s",
        "How long a graceful stop waits for work in flight.";
    retention: Duration = parse::duration, "OUTBOX_RETENTION", DURATION, "7d",
        "How long published messages and idempotency keys are kept.";
    retention_days: u32 = |text| parse::number(text, 1..=36_500), "OUTBOX_RETENTION_DAYS",
        "a whole number from 1 to 36500", "7",
        "The same in days; it sets `OUTBOX_RETENTION`, and only one of the two may be given.";
    purge_interval: Duration = parse::pace, "OUTBOX_PURGE_INTERVAL", PACE, "60s",
        "How often a relay looks for what is older than the retention.";
    purge_batch: usize = |text| parse::number(text, 1..=100_000), "OUTBOX_PURGE_BATCH", COUNT,
        "500", "The most messages that a relay purges in one transaction.";
    enable_metrics: bool = parse::switch, "OUTBOX_ENABLE_METRICS", SWITCH, "false",
        "Whether metrics are recorded.";
}

impl EnvConfig {
    /// Reads the environment of the process.
    ///
    /// # Errors
    /// As [`EnvConfig::from_pairs`].
    pub fn from_system() -> Result<Self, ConfigError> {
        Self::from_pairs(std::env::vars_os())
    }

    /// Reads the given variables; those of other names than this system's are ignored.
    ///
    /// # Errors
    /// Every value that cannot be used and every `OUTBOX_*` variable that is not known, at once.
    pub fn from_pairs<N, V>(pairs: impl IntoIterator<Item = (N, V)>) -> Result<Self, ConfigError>
    where
        N: Into<OsString>,
        V: Into<OsString>,
    {
        Self::from_pairs_beside(pairs, &[])
    }

    /// As [`EnvConfig::from_pairs`], in an application that has the `OUTBOX_*` variables `own` of
    /// its own.
    ///
    /// # Errors
    /// As [`EnvConfig::from_pairs`].
    pub fn from_pairs_beside<N, V>(
        pairs: impl IntoIterator<Item = (N, V)>,
        own: &[&str],
    ) -> Result<Self, ConfigError>
    where
        N: Into<OsString>,
        V: Into<OsString>,
    {
        let pairs = pairs
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()));
        let found: BTreeMap<OsString, OsString> = pairs.collect();
        let mut problems = ConfigError::default();
        let mut config = Self::read(&found, &mut problems);
        config.settle_retention(&mut problems);
        config.check_order(&mut problems);
        config.check_user(&mut problems);
        for name in found.keys() {
            tell_stranger(&name.to_string_lossy(), own, &mut problems);
        }
        problems.into_result().map(|()| config)
    }

    fn settle_retention(&mut self, problems: &mut ConfigError) {
        const DAY: Duration = Duration::from_hours(24);
        match (self.retention, self.retention_days) {
            (Some(_), Some(_)) => {
                let problem = "cannot be given together with OUTBOX_RETENTION";
                problems.add("OUTBOX_RETENTION_DAYS", problem);
            }
            (None, Some(days)) => self.retention = Some(DAY * days),
            (_, None) => {}
        }
    }

    fn check_user(&self, problems: &mut ConfigError) {
        if self.redis_user.is_some() && self.redis_password.is_none() {
            problems.add("OUTBOX_REDIS_USER", "needs OUTBOX_REDIS_PASSWORD beside it");
        }
    }

    fn check_order(&self, problems: &mut ConfigError) {
        let pairs = [
            (
                "OUTBOX_BACKOFF_BASE",
                self.backoff_base,
                "OUTBOX_BACKOFF_CAP",
                self.backoff_cap,
            ),
            (
                "OUTBOX_CIRCUIT_BREAKER_RESET_TIMEOUT",
                self.breaker_reset_timeout,
                "OUTBOX_CIRCUIT_BREAKER_MAX_RESET_TIMEOUT",
                self.breaker_max_reset_timeout,
            ),
        ];
        for (low_name, low, high_name, high) in pairs {
            if low.zip(high).is_some_and(|(low, high)| low > high) {
                problems.add(low_name, format!("is longer than {high_name}"));
            }
        }
        if (self.batch_floor.zip(self.batch_size)).is_some_and(|(floor, size)| floor > size) {
            problems.add("OUTBOX_BATCH_FLOOR", "is greater than OUTBOX_BATCH_SIZE");
        }
    }
}

fn take<T>(
    found: &BTreeMap<OsString, OsString>,
    name: &str,
    form: &str,
    parse: impl FnOnce(&str) -> Option<T>,
    problems: &mut ConfigError,
) -> Option<T> {
    let value = found.get(OsStr::new(name))?;
    match parse::setting(value, form, parse) {
        Ok(setting) => Some(setting),
        Err(problem) => {
            problems.add(name, problem);
            None
        }
    }
}

fn tell_stranger(name: &str, own: &[&str], problems: &mut ConfigError) {
    let known = || VARIABLES.iter().map(|variable| variable.name);
    let expected =
        !name.starts_with(PREFIX) || name.starts_with(TEST_PREFIX) || own.contains(&name);
    if expected || known().any(|known| known == name) {
        return;
    }
    let problem = match nearest(name, known().chain(own.iter().copied())) {
        Some(meant) => format!("is not known; did you mean {meant}?"),
        None => "is not known".to_owned(),
    };
    problems.add(name, problem);
}
