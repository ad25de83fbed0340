use std::time::Duration;

use outbox_core::env::EnvConfig;
use outbox_core::error::ConfigError;
use outbox_core::memory::FailureMode;
use outbox_core::policy::Quota;

/// What a limiter does while its server does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RedisLimiterConfig {
    /// How long a decision may take before `on_failure` decides; 250 ms by default, from 10 ms to
    /// 1 h. A decision that came too late may have taken its permits.
    pub timeout: Duration,
    /// Whether nothing is allowed then (fail closed), or up to a ceiling in each process (fail
    /// open). Closed by default, asking again after 1 s: right where more than the limit costs
    /// money or a ban.
    pub on_failure: FailureMode,
}

impl Default for RedisLimiterConfig {
    fn default() -> Self {
        Self {
            timeout: Duration::from_millis(250),
            on_failure: FailureMode::Closed {
                retry_after: Duration::from_secs(1),
            },
        }
    }
}

impl RedisLimiterConfig {
    /// The defaults, replaced where the environment says something: `OUTBOX_LIMITER_TIMEOUT`, and
    /// `OUTBOX_LIMITER_CEILING`, with which a limiter fails open.
    ///
    /// ```
    /// use outbox_core::env::EnvConfig;
    /// use outbox_core::memory::FailureMode;
    /// use outbox_redis::RedisLimiterConfig;
    ///
    /// let env = EnvConfig::from_pairs([("OUTBOX_LIMITER_CEILING", "60")]).unwrap();
    /// let config = RedisLimiterConfig::from_env(&env).unwrap();
    /// assert!(matches!(config.on_failure, FailureMode::Open { .. }));
    /// ```
    ///
    /// # Errors
    /// A [`ConfigError`] for a ceiling that no quota can have.
    pub fn from_env(env: &EnvConfig) -> Result<Self, ConfigError> {
        let default = Self::default();
        let open = |permits| {
            let ceiling = Quota::new(permits, Duration::from_secs(60), permits)?;
            Ok::<_, ConfigError>(FailureMode::Open { ceiling })
        };
        Ok(Self {
            timeout: env.limiter_timeout.unwrap_or(default.timeout),
            on_failure: env.limiter_ceiling.map_or(Ok(default.on_failure), open)?,
        })
    }

    pub(super) fn check(&self, error: &mut ConfigError) {
        let range = Duration::from_millis(10)..=Duration::from_secs(3_600);
        if !range.contains(&self.timeout) {
            let problem = format!("is {:?}, but 10 ms to 1 h is needed", self.timeout);
            error.add("timeout", problem);
        }
    }
}
