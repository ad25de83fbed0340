use std::fmt;

use outbox_core::error::ConfigError;

/// The longest name or prefix in bytes.
const LONGEST: usize = 255;

/// The names of all keys of one queue, cache or limiter: `prefix:{name}:part`.
///
/// The braces are the one hash tag of the name, so that all of its keys lie in one slot of a
/// cluster, and one script may touch them all.
#[derive(Clone, Debug)]
pub(crate) struct Keys(String);

impl Keys {
    /// The keys of `name`; both texts were checked.
    pub(crate) fn new(prefix: &str, name: &str) -> Self {
        Self(format!("{prefix}:{{{name}}}"))
    }

    /// The key of one part, as `stream`.
    pub(crate) fn part(&self, part: &str) -> String {
        format!("{self}:{part}")
    }
}

impl fmt::Display for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Notes in `error` what keeps the text of `setting` from being part of a key.
pub(crate) fn check_text(error: &mut ConfigError, setting: &str, text: &str) {
    if text.is_empty() {
        error.add(setting, "is empty");
    }
    if text.len() > LONGEST {
        let problem = format!("is {} bytes long, over its limit of {LONGEST}", text.len());
        error.add(setting, problem);
    }
    if text.contains(['{', '}']) || text.chars().any(char::is_control) {
        error.add(setting, "holds a brace or a control character");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> usize {
        let mut error = ConfigError::default();
        check_text(&mut error, "name", text);
        error.problems.len()
    }

    #[test]
    fn all_keys_of_a_name_have_one_hash_tag() {
        let keys = Keys::new("shop", "tasks");
        assert_eq!(keys.part("stream"), "shop:{tasks}:stream");
        let slot = |key: String| fred::util::redis_keyslot(key.as_bytes());
        assert_eq!(slot(keys.part("stream")), slot(keys.part("delayed")));
        assert_eq!(slot(keys.part("stream")), slot("tasks".to_owned()));
    }

    #[test]
    fn a_name_without_a_slot_of_its_own_is_refused() {
        assert_eq!(problems("tasks of 2026"), 0);
        assert_eq!(problems(""), 1);
        assert_eq!(problems("a{b}"), 1);
        assert_eq!(problems("a\nb"), 1);
        assert_eq!(problems(&"x".repeat(256)), 1);
    }
}
