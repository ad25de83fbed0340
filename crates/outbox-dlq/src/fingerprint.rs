//! Like failures share a fingerprint.
//!
//! It is computed from three things: the error's kind, the message's kind, and the error's text with
//! everything taken out that differs from one message to the next ([`normalise`]). The rules below
//! and the hash are part of the interface: they do not change between releases, and
//! `tests/fingerprints.txt` holds them.

use std::fmt;
use std::iter::Peekable;
use std::str::{Chars, FromStr};

use serde::{Deserialize, Serialize};

/// How much of a normalised text counts, in characters; error texts are cut where they are stored,
/// and a fingerprint must not depend on where.
const COUNTED: usize = 256;

/// What stands for a quoted value.
const QUOTED: char = '?';
/// What stands for a number or an id.
const NUMBER: char = '#';

/// What groups like failures: 64 bits, written as 16 hexadecimal digits.
///
/// ```
/// use outbox_dlq::Fingerprint;
///
/// let one = Fingerprint::of("failed", "order.placed@1", "no row for order 17 ('A-4')");
/// let other = Fingerprint::of("failed", "order.placed@1", "no row for order 23 ('B-9')");
/// assert_eq!(one, other);
/// assert_ne!(one, Fingerprint::of("refused", "order.placed@1", "no row for order 17 ('A-4')"));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Fingerprint(u64);

impl Fingerprint {
    /// The fingerprint of a failure: FNV-1a, 64 bits, over the error's kind, a zero byte, the
    /// message's kind (`name@version`; empty where the message cannot be read), a zero byte, and the
    /// first 256 characters of the normalised text.
    #[must_use]
    pub fn of(error_kind: &str, message_kind: &str, error: &str) -> Self {
        let text: String = normalise(error).chars().take(COUNTED).collect();
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let mut eat = |bytes: &[u8]| {
            for byte in bytes {
                hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
            }
        };
        for part in [error_kind, "\0", message_kind, "\0", &text] {
            eat(part.as_bytes());
        }
        Self(hash)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is no fingerprint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no fingerprint: 16 hexadecimal digits")]
pub struct InvalidFingerprint(String);

impl FromStr for Fingerprint {
    type Err = InvalidFingerprint;

    fn from_str(text: &str) -> Result<Self, InvalidFingerprint> {
        let digits = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = u64::from_str_radix(text, 16).ok().filter(|_| digits);
        number
            .map(Self)
            .ok_or_else(|| InvalidFingerprint(text.to_owned()))
    }
}

impl TryFrom<String> for Fingerprint {
    type Error = InvalidFingerprint;

    fn try_from(text: String) -> Result<Self, InvalidFingerprint> {
        text.parse()
    }
}

impl From<Fingerprint> for String {
    fn from(fingerprint: Fingerprint) -> Self {
        fingerprint.to_string()
    }
}

/// An error's text without what differs from one message to the next:
///
/// 1. What stands in single, double or back quotes becomes `?`. A quote opens where no letter or
///    digit stands before it, and is closed by the same one that no letter or digit follows; one that
///    is never closed takes the rest of the text. A backslash takes away the meaning of what follows.
/// 2. A word, made of letters, digits, `_` and `-`, becomes `#` where it has a digit in it, or where
///    it is 8 or more letters from `a` to `f` only: numbers, UUIDs, hexadecimal ids.
/// 3. Several `#` with only `.`, `:`, `/`, `,`, `+` or `-` between them become one: times, addresses,
///    decimals. A sign before a number belongs to it.
/// 4. White space becomes one blank; none stands at either end.
///
/// ```
/// use outbox_dlq::normalise;
///
/// assert_eq!(normalise("timeout after 1.5s at 10.0.0.7:443"), "timeout after # at #");
/// assert_eq!(normalise("no key \"k-17\" in  shard 3"), "no key ? in shard #");
/// ```
#[must_use]
pub fn normalise(error: &str) -> String {
    let mut out = Normal::default();
    let mut rest = error.chars().peekable();
    while let Some(next) = rest.next() {
        match next {
            '"' | '\'' | '`' if !out.after_word => {
                skip_quoted(&mut rest, next);
                out.value(QUOTED);
            }
            next if is_word(next) => out.word(&take_word(next, &mut rest)),
            next if next.is_whitespace() => out.blank(),
            next => out.mark(next),
        }
    }
    out.finish()
}

/// Whether `c` is a part of words.
fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-')
}

fn take_word(first: char, rest: &mut Peekable<Chars<'_>>) -> String {
    let mut word = String::from(first);
    while let Some(next) = rest.next_if(|next| is_word(*next)) {
        word.push(next);
    }
    word
}

fn skip_quoted(rest: &mut Peekable<Chars<'_>>, quote: char) {
    while let Some(next) = rest.next() {
        if next == '\\' {
            rest.next();
        } else if next == quote && !rest.peek().is_some_and(|c| c.is_alphanumeric()) {
            return;
        }
    }
}

fn is_value(word: &str) -> bool {
    let hexadecimal = |c: char| matches!(c, 'a'..='f' | 'A'..='F');
    word.chars().any(char::is_numeric) || (word.len() >= 8 && word.chars().all(hexadecimal))
}

/// A normalised text under construction.
#[derive(Default)]
struct Normal {
    out: String,
    /// Marks between a number and what may be another.
    joints: String,
    /// Whether the last thing was a letter or a digit.
    after_word: bool,
    blank: bool,
}

impl Normal {
    fn value(&mut self, value: char) {
        let joined = value == NUMBER && self.out.ends_with(NUMBER) && !self.blank;
        if joined {
            self.joints.clear();
        } else {
            self.settle();
            // A sign belongs to its number.
            if value == NUMBER && self.out.ends_with(['+', '-']) {
                self.out.pop();
            }
            self.out.push(value);
        }
        self.after_word = value == NUMBER;
    }

    fn word(&mut self, word: &str) {
        if is_value(word) {
            self.value(NUMBER);
        } else {
            self.settle();
            self.out.push_str(word);
        }
        self.after_word = word.ends_with(char::is_alphanumeric);
    }

    fn mark(&mut self, mark: char) {
        self.after_word = false;
        let joint = matches!(mark, '.' | ':' | '/' | ',' | '+');
        if joint && self.out.ends_with(NUMBER) && !self.blank {
            self.joints.push(mark);
        } else {
            self.settle();
            self.out.push(mark);
        }
    }

    fn blank(&mut self) {
        self.after_word = false;
        self.out.push_str(&std::mem::take(&mut self.joints));
        self.blank = true;
    }

    /// Writes what waited for the next thing.
    fn settle(&mut self) {
        self.out.push_str(&std::mem::take(&mut self.joints));
        if std::mem::take(&mut self.blank) && !self.out.is_empty() {
            self.out.push(' ');
        }
    }

    fn finish(mut self) -> String {
        self.out.push_str(&self.joints);
        self.out
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_differs_from_one_message_to_the_next_is_taken_out() {
        for (text, normal) in [
            ("", ""),
            ("connection refused", "connection refused"),
            ("  a \t b\n", "a b"),
            ("order 17 of 23", "order # of #"),
            ("at -5 or +7.25e-3 degrees", "at # or # degrees"),
            ("took 1.5 ms.", "took # ms."),
            ("2026-11-25T17:51:10.123Z: late", "#: late"),
            ("id 0195c7e2-7f3a-7000-8000-00000000abcd", "id #"),
            ("hash deadbeef, not decade", "hash #, not decade"),
            ("can't open 'a file' or \"b\"", "can't open ? or ?"),
            ("unknown `kind`: \"say \\\"hi\\\" now\"!", "unknown ?: ?!"),
            ("got 'cut off her", "got ?"),
            ("[1, 2, 3] of x=4;y=5", "[#, #, #] of x=#;y=#"),
            ("größe 7 über ½", "größe # über #"),
        ] {
            assert_eq!(normalise(text), normal, "{text}");
        }
    }

    #[test]
    fn a_fingerprint_survives_its_text() {
        let fingerprint = Fingerprint::of("failed", "a@1", "x");
        assert_eq!(fingerprint.to_string().parse(), Ok(fingerprint));
        for wrong in [
            "",
            "1",
            "+000000000000001",
            "00000000000000000",
            "g".repeat(16).as_str(),
        ] {
            assert!(wrong.parse::<Fingerprint>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_text_that_was_cut_keeps_its_fingerprint() {
        let long = format!("bad value 17: \"{}\"", "x ".repeat(2_000));
        let of = |text: &str| Fingerprint::of("failed", "a@1", text);
        assert_eq!(of(&long), of(&long[..1_024]));
        let words = "many words and 5 numbers ".repeat(100);
        assert_eq!(of(&words), of(&words[..1_024]));
    }

    fn failing(number: u64, id: &str, quoted: &str) -> String {
        format!(
            "order {number} ({id}) took {number}.{number} s: no {quoted:?} at :{number}, -{number}"
        )
    }

    proptest! {
        #[test]
        fn numbers_ids_and_quoted_values_do_not_count(
            numbers in any::<(u64, u64)>(),
            ids in any::<(u128, u128)>(),
            quoted in ("[ -~]{0,40}", "[ -~]{0,40}"),
        ) {
            let id = |id: u128| {
                let hex = format!("{id:032x}");
                format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
            };
            let one = failing(numbers.0, &id(ids.0), &quoted.0);
            let other = failing(numbers.1, &id(ids.1), &quoted.1);
            prop_assert_eq!(normalise(&one), normalise(&other));
        }

        #[test]
        fn any_text_has_a_normal_form_which_is_its_own(text in any::<String>()) {
            let normal = normalise(&text);
            prop_assert!(normal.chars().all(|c| !c.is_numeric()), "{}", normal);
        }
    }
}
