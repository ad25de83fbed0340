use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How many bits of a length a character has, and what says that more follow.
const BITS: u32 = 6;
const MORE: u8 = 1 << BITS;

/// Named texts that travel with a message unchanged; names are unique, order is kept.
///
/// Setting and finding one look at all of them: fit for as many as [`super::Limits`] allows.
#[derive(Clone, Default, PartialEq, Eq)]
#[doc(alias = "metadata")]
pub struct Headers {
    /// Each name and each value behind its length, in one piece of memory: every message that is
    /// read has some, and most are never asked for.
    packed: String,
    count: usize,
}

impl Headers {
    /// Ties together all messages of one business operation.
    pub const CORRELATION_ID: &'static str = "correlation-id";
    /// The id of the message or command that caused this one.
    pub const CAUSATION_ID: &'static str = "causation-id";
    /// Whose data this is, in a system of several tenants.
    pub const TENANT_ID: &'static str = "tenant-id";
    /// W3C trace context: the parent span.
    pub const TRACEPARENT: &'static str = "traceparent";
    /// W3C trace context: vendor state.
    pub const TRACESTATE: &'static str = "tracestate";

    /// About how many bytes they take; never far below.
    pub(crate) fn size_hint(&self) -> usize {
        self.packed.len()
    }

    /// None yet, with memory for about so many bytes of them.
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self {
            packed: String::with_capacity(bytes),
            count: 0,
        }
    }

    /// Sets header `name`, replacing an earlier value.
    pub fn set(&mut self, name: impl AsRef<str>, value: impl AsRef<str>) {
        let (name, value) = (name.as_ref(), value.as_ref());
        if self.get(name).is_none() {
            return self.push(name, value);
        }
        let mut replaced = Self::with_capacity(self.packed.len() + value.len());
        for (known, old) in self.iter() {
            replaced.push(known, if known == name { value } else { old });
        }
        *self = replaced;
    }

    fn push(&mut self, name: &str, value: &str) {
        for text in [name, value] {
            put_length(&mut self.packed, text.len());
            self.packed.push_str(text);
        }
        self.count += 1;
    }

    /// The value of header `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value)
    }

    /// All headers, in the order in which they were first set.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut rest = self.packed.as_str();
        std::iter::from_fn(move || match rest {
            "" => None,
            _ => Some((take_text(&mut rest), take_text(&mut rest))),
        })
    }

    /// How many headers there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// Appends a length, six bits a character, the lowest first.
fn put_length(packed: &mut String, length: usize) {
    let mut rest = length;
    loop {
        let low = (rest & usize::from(MORE - 1)) as u8;
        rest >>= BITS;
        match rest {
            0 => return packed.push(char::from(low)),
            _ => packed.push(char::from(low | MORE)),
        }
    }
}

/// Takes the first text off what was packed.
fn take_text<'a>(rest: &mut &'a str) -> &'a str {
    let (mut length, mut used) = (0, 0);
    for byte in rest.bytes() {
        length |= usize::from(byte & (MORE - 1)) << (BITS * used);
        used += 1;
        if byte & MORE == 0 {
            break;
        }
    }
    let (text, behind) = rest[used as usize..].split_at(length);
    *rest = behind;
    text
}

impl<N: AsRef<str>, V: AsRef<str>> FromIterator<(N, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let mut headers = Self::default();
        for (name, value) in pairs {
            headers.set(name, value);
        }
        headers
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl Serialize for Headers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let pairs = Vec::<(String, String)>::deserialize(deserializer)?;
        Ok(pairs.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn setting_a_header_twice_keeps_the_last_value() {
        let headers: Headers = [("a", "1"), ("b", "2"), ("a", "3")].into_iter().collect();
        assert_eq!(headers.iter().collect::<Vec<_>>(), [("a", "3"), ("b", "2")]);
        assert_eq!(format!("{headers:?}"), r#"{"a": "3", "b": "2"}"#);
    }

    #[test]
    fn headers_are_a_list_of_pairs_in_json() {
        let headers: Headers = [("a", "1"), ("", "")].into_iter().collect();
        let json = serde_json::to_string(&headers).unwrap();
        assert_eq!(json, r#"[["a","1"],["",""]]"#);
        assert_eq!(serde_json::from_str::<Headers>(&json).unwrap(), headers);
    }

    /// A text of any length that takes one, two or three characters to tell.
    fn text() -> impl Strategy<Value = String> {
        let long = (".", 0..9_000_usize).prop_map(|(one, times)| one.repeat(times));
        prop_oneof![4 => ".{0,70}", 1 => long]
    }

    proptest! {
        #[test]
        fn what_was_set_last_is_there(
            pairs in proptest::collection::vec((text(), text()), 0..8)
        ) {
            let headers: Headers = pairs.iter().map(|(name, value)| (name, value)).collect();
            let mut known: Vec<(&str, &str)> = Vec::new();
            for (name, value) in &pairs {
                match known.iter_mut().find(|(old, _)| old == name) {
                    Some(one) => one.1 = value,
                    None => known.push((name, value)),
                }
            }
            prop_assert_eq!(headers.iter().collect::<Vec<_>>(), known.clone());
            prop_assert_eq!((headers.len(), headers.is_empty()), (known.len(), known.is_empty()));
            for (name, value) in known {
                prop_assert_eq!(headers.get(name), Some(value));
            }
        }
    }
}
