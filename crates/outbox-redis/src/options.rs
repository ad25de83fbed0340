use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use fred::types::Builder;
use fred::types::config::{Config, ReconnectPolicy};
use outbox_core::env::EnvConfig;
use outbox_core::error::ConfigError;

use crate::keys::check_text;
use crate::time_source::TimeSource;
use crate::tls;

/// Beginnings of URLs that this crate opens, without `redis` or `rediss`.
const SCHEMES: &[&str] = &["", "-cluster", "-sentinel"];

/// What to do with a server that throws keys away when its memory is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Eviction {
    /// Refuse to open it. The default: eviction loses messages without a trace.
    #[default]
    Refuse,
    /// Open it, and write a warning to the log.
    Warn,
}

/// How to open a [`crate::RedisStore`]; every setting but the URL has a default.
///
/// ```
/// use outbox_redis::RedisOptions;
/// use std::time::Duration;
///
/// let options = RedisOptions::new("redis://127.0.0.1:6379")
///     .user("shop", "secret")
///     .prefix("shop")
///     .command_timeout(Duration::from_secs(2));
/// assert!(!format!("{options:?}").contains("secret"));
/// ```
#[derive(Clone)]
#[must_use]
pub struct RedisOptions {
    url: String,
    user: Option<(Option<String>, String)>,
    prefix: String,
    connect_timeout: Duration,
    command_timeout: Duration,
    reconnect: (Duration, Duration),
    max_command_buffer_len: usize,
    eviction: Eviction,
    time_source: TimeSource,
    authorities: Option<PathBuf>,
}

impl RedisOptions {
    /// The defaults for the server at `url`: `redis://host:port`, `redis-cluster://host:port`, or
    /// `redis-sentinel://host:port?sentinelServiceName=name`, where `&node=host:port` adds more
    /// nodes; `rediss` in the place of `redis` for TLS, which needs the feature `tls`. A user and
    /// a password may stand in it, percent-encoded, as `redis://user:password@host`.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            user: None,
            prefix: "outbox".to_owned(),
            connect_timeout: Duration::from_secs(5),
            command_timeout: Duration::from_secs(3),
            reconnect: (Duration::from_millis(50), Duration::from_secs(1)),
            max_command_buffer_len: 256,
            eviction: Eviction::default(),
            time_source: TimeSource::default(),
            authorities: None,
        }
    }

    /// What the environment says of a server; `None` where it names no URL.
    ///
    /// ```
    /// use outbox_core::env::EnvConfig;
    /// use outbox_redis::RedisOptions;
    ///
    /// let env = EnvConfig::from_pairs([("OUTBOX_REDIS_URL", "redis://localhost")]).unwrap();
    /// assert!(RedisOptions::from_env(&env).is_some());
    /// assert!(RedisOptions::from_env(&EnvConfig::default()).is_none());
    /// ```
    #[must_use]
    pub fn from_env(env: &EnvConfig) -> Option<Self> {
        let mut options = Self::new(env.redis_url.as_ref()?.reveal());
        if let Some(password) = &env.redis_password {
            options.user = Some((env.redis_user.clone(), password.reveal().to_owned()));
        }
        if let Some(prefix) = &env.redis_prefix {
            options = options.prefix(prefix);
        }
        if let Some(file) = &env.redis_authorities {
            options = options.certificate_authorities(file);
        }
        if let Some(timeout) = env.redis_timeout {
            options = options.command_timeout(timeout);
        }
        Some(options)
    }

    /// The user of the access control list and its password; they go before those of the URL.
    pub fn user(mut self, name: impl Into<String>, password: impl Into<String>) -> Self {
        self.user = Some((Some(name.into()), password.into()));
        self
    }

    /// The password of the default user; it goes before that of the URL.
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.user = Some((None, password.into()));
        self
    }

    /// The file, in PEM form, of those who may have signed a server's certificate, in the place of
    /// those whom the system trusts; for a URL of `rediss` only.
    pub fn certificate_authorities(mut self, file: impl Into<PathBuf>) -> Self {
        self.authorities = Some(file.into());
        self
    }

    /// What the names of all keys begin with, so that several applications may share a server;
    /// `outbox` by default, from 1 to 255 bytes without braces. A key is named
    /// `prefix:{name}:part`, where the name in braces is that of the queue, cache or limiter: all of
    /// its keys lie in one slot of a cluster.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// How long connecting may take; 5 s by default, at least 10 ms.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long a command may take before it fails as transient, while the server is away too; 3 s
    /// by default, at least 10 ms. A connection that did not answer in time is replaced.
    pub fn command_timeout(mut self, timeout: Duration) -> Self {
        self.command_timeout = timeout;
        self
    }

    /// The pauses between attempts to connect again: from `least`, doubling, to `most`, with jitter
    /// of half of `most`; from 50 ms to 1 s by default. There is no last attempt.
    pub fn reconnect(mut self, least: Duration, most: Duration) -> Self {
        self.reconnect = (least, most);
        self
    }

    /// The most commands that wait in this process, for a server that is away or for their turn;
    /// those over it fail at once as transient, and the connection stays. 256 by default, at least
    /// 1; a command may be a batch of messages.
    pub fn max_command_buffer_len(mut self, commands: usize) -> Self {
        self.max_command_buffer_len = commands;
        self
    }

    /// What to do with a server that throws keys away when its memory is full; refuse it by default.
    pub fn eviction(mut self, eviction: Eviction) -> Self {
        self.eviction = eviction;
        self
    }

    /// Whose clock decides; the server's by default, and nothing else but in tests.
    pub fn time_source(mut self, time_source: TimeSource) -> Self {
        self.time_source = time_source;
        self
    }

    pub(crate) fn clock(&self) -> TimeSource {
        self.time_source
    }

    pub(crate) fn key_prefix(&self) -> &str {
        &self.prefix
    }

    pub(crate) fn commands(&self) -> usize {
        self.max_command_buffer_len
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.command_timeout
    }

    pub(crate) fn on_eviction(&self) -> Eviction {
        self.eviction
    }

    /// What makes connections, and the server's address; every problem at once.
    pub(crate) fn builder(&self) -> Result<(Builder, String), ConfigError> {
        let mut error = ConfigError::default();
        check_text(&mut error, "prefix", &self.prefix);
        self.check_numbers(&mut error);
        let config = self.config(&mut error);
        error.into_result()?;
        let config = config.unwrap_or_default();
        let place = place(&config);
        let mut builder = Builder::from_config(config);
        self.tune(&mut builder);
        Ok((builder, place))
    }

    fn check_numbers(&self, error: &mut ConfigError) {
        let (least, most) = self.reconnect;
        let times = [
            ("connect_timeout", self.connect_timeout),
            ("command_timeout", self.command_timeout),
            ("reconnect", least),
        ];
        for (setting, time) in times {
            if time < Duration::from_millis(10) || time > Duration::from_secs(3_600) {
                error.add(setting, format!("is {time:?}, but 10 ms to 1 h is needed"));
            }
        }
        if least > most || most > Duration::from_secs(3_600) {
            let problem = format!("is from {least:?} to {most:?}; the second must be the longer");
            error.add("reconnect", problem);
        }
        if self.max_command_buffer_len == 0 {
            error.add("max_command_buffer_len", "is 0, but at least 1 is needed");
        }
    }

    fn config(&self, error: &mut ConfigError) -> Option<Config> {
        if let Err(problem) = check_scheme(&self.url) {
            error.add("url", problem);
            return None;
        }
        // Encryption is set up here: the driver's own way would use whichever provider it finds.
        let (url, encrypted) = match self.url.strip_prefix("rediss") {
            Some(rest) => (format!("redis{rest}"), true),
            None => (self.url.clone(), false),
        };
        match Config::from_url(&url) {
            Ok(mut config) => {
                self.encrypt(&mut config, encrypted, error);
                if let Some((name, password)) = &self.user {
                    config.username.clone_from(name);
                    config.password = Some(password.clone());
                }
                Some(config)
            }
            Err(problem) => {
                error.add("url", problem.details());
                None
            }
        }
    }

    fn encrypt(&self, config: &mut Config, encrypted: bool, error: &mut ConfigError) {
        let authorities = self.authorities.as_deref();
        if !encrypted {
            if authorities.is_some() {
                error.add("certificate_authorities", "is for a URL of `rediss` only");
            }
            return;
        }
        if let Err(problem) = tls::encrypt(config, authorities) {
            let setting = authorities.map_or("url", |_| "certificate_authorities");
            error.add(setting, problem);
        }
    }

    fn tune(&self, builder: &mut Builder) {
        let (least, most) = self.reconnect;
        let mut policy = ReconnectPolicy::new_exponential(0, millis(least), millis(most), 2);
        policy.set_jitter(millis(most) / 2);
        builder.set_policy(policy);
        builder.with_connection_config(|connection| {
            connection.connection_timeout = self.connect_timeout;
            connection.internal_command_timeout = self.connect_timeout;
            connection.max_command_attempts = 1;
            connection.max_command_buffer_len = self.max_command_buffer_len;
            connection.reconnect_on_auth_error = true;
            connection.tcp.nodelay = Some(true);
        });
        builder.with_performance_config(|performance| {
            performance.default_command_timeout = self.command_timeout;
        });
    }
}

fn check_scheme(url: &str) -> Result<(), String> {
    let Some((scheme, rest)) = url.split_once("://") else {
        return Err("has no scheme; redis://host:port is one that does".to_owned());
    };
    let plain = scheme
        .strip_prefix("rediss")
        .or(scheme.strip_prefix("redis"));
    if !plain.is_some_and(|kind| SCHEMES.contains(&kind)) {
        return Err(format!(
            "has the scheme `{scheme}`, but one of redis, redis-cluster, redis-sentinel, or rediss \
             in the place of redis is needed"
        ));
    }
    if scheme.ends_with("-sentinel") && !rest.contains("sentinelServiceName=") {
        return Err("names Sentinels, but no service: sentinelServiceName is missing".to_owned());
    }
    Ok(())
}

/// The addresses in `config`, without users and passwords.
fn place(config: &Config) -> String {
    let hosts = config.server.hosts();
    let hosts: Vec<_> = hosts.iter().map(ToString::to_string).collect();
    hosts.join(", ")
}

fn millis(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}

impl fmt::Debug for RedisOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.builder().map(|(_, place)| place);
        f.debug_struct("RedisOptions")
            .field("server", &place.unwrap_or_default())
            .field("prefix", &self.prefix)
            .field("connect_timeout", &self.connect_timeout)
            .field("command_timeout", &self.command_timeout)
            .field("reconnect", &self.reconnect)
            .field("max_command_buffer_len", &self.max_command_buffer_len)
            .field("eviction", &self.eviction)
            .field("time_source", &self.time_source)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(url: &str) -> String {
        RedisOptions::new(url).builder().unwrap_err().to_string()
    }

    #[test]
    fn every_kind_of_url_is_read() {
        let urls = [
            ("redis://10.0.0.1:7000", "10.0.0.1:7000"),
            ("redis://user:p%40ss@cache", "cache:6379"),
            ("redis-cluster://a:1?node=b:2", "b:2, a:1"),
            ("redis-sentinel://a:1?sentinelServiceName=main", "a:1"),
        ];
        for (url, place) in urls {
            assert_eq!(RedisOptions::new(url).builder().unwrap().1, place, "{url}");
        }
    }

    #[test]
    fn a_url_that_cannot_be_used_is_told_without_its_password() {
        let urls = [
            ("127.0.0.1:6379", "no scheme"),
            ("http://user:secret@a", "`http`"),
            ("redis-sentinel://:secret@a:1", "sentinelServiceName"),
            ("redis://user:secret@:99", "Host"),
        ];
        for (url, part) in urls {
            let told = problem(url);
            assert!(told.contains(part) && !told.contains("secret"), "{told}");
        }
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let options = RedisOptions::new("redis://a")
            .prefix("{a}")
            .command_timeout(Duration::ZERO)
            .reconnect(Duration::from_secs(2), Duration::from_secs(1))
            .max_command_buffer_len(0);
        let error = options.builder().unwrap_err();
        let settings: Vec<_> = error.problems.iter().map(|p| p.setting.as_str()).collect();
        let expected = [
            "prefix",
            "command_timeout",
            "reconnect",
            "max_command_buffer_len",
        ];
        assert_eq!(settings, expected);
    }

    #[test]
    fn a_user_given_apart_goes_before_that_of_the_url() {
        let options = RedisOptions::new("redis://one:1@a").user("two", "2");
        let mut error = ConfigError::default();
        let config = options.config(&mut error).unwrap();
        assert_eq!(config.username.as_deref(), Some("two"));
        assert_eq!(config.password.as_deref(), Some("2"));
    }
}
