use std::sync::OnceLock;

use sha1::{Digest, Sha1};

/// A script that the server runs whole: constant, so that it is sent once and then known by its hash.
pub(crate) struct Script {
    text: &'static str,
    hash: OnceLock<String>,
}

impl Script {
    pub(crate) const fn new(text: &'static str) -> Self {
        Self {
            text,
            hash: OnceLock::new(),
        }
    }

    pub(crate) fn text(&'static self) -> &'static str {
        self.text
    }

    /// The SHA-1 of the text in hexadecimal: the name that the server gives it.
    pub(crate) fn hash(&'static self) -> &'static str {
        self.hash.get_or_init(|| {
            let digest = Sha1::digest(self.text.as_bytes());
            digest.iter().map(|byte| format!("{byte:02x}")).collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_the_one_that_the_server_computes() {
        static SCRIPT: Script = Script::new("return 1");
        assert_eq!(SCRIPT.hash(), "e0e1f9fabfc9d4800c877a703b823ac0578ff8db");
    }
}
