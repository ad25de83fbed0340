//! The small things that bodies are made of: numbers, lengths and texts.

use std::time::Duration;

/// Why bytes cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// They end before what they announce.
    #[error("the body ends too early")]
    Short,
    /// The announced length is not that of the body.
    #[error("the body's length is not the one it states")]
    Length,
    /// A text is not UTF-8.
    #[error("a text in the body is not UTF-8")]
    Text,
    /// A format that this version does not know.
    #[error("the body's format {0} is unknown")]
    Format(u8),
    /// A value that cannot be.
    #[error("the body holds an impossible {0}")]
    Value(&'static str),
}

/// Appends a length, seven bits a byte, the lowest first.
pub(crate) fn put_length(out: &mut Vec<u8>, length: usize) {
    let mut rest = length;
    while rest >= 0x80 {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Appends a text with its length.
pub(crate) fn put_text(out: &mut Vec<u8>, text: &str) {
    put_length(out, text.len());
    out.extend_from_slice(text.as_bytes());
}

/// Appends a text that may be missing; a missing one differs from an empty one.
pub(crate) fn put_optional_text(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        None => put_length(out, 0),
        Some(text) => {
            put_length(out, text.len() + 1);
            out.extend_from_slice(text.as_bytes());
        }
    }
}

/// Appends a duration, exactly.
pub(crate) fn put_duration(out: &mut Vec<u8>, duration: Duration) {
    out.extend_from_slice(&duration.as_secs().to_le_bytes());
    out.extend_from_slice(&duration.subsec_nanos().to_le_bytes());
}

/// Reads forward through bytes; never past their end.
pub(crate) struct Cursor<'a>(pub(crate) &'a [u8]);

impl<'a> Cursor<'a> {
    pub(crate) fn take(&mut self, length: usize) -> Result<&'a [u8], Damage> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Damage::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Damage> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(Damage::Short)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, Damage> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    pub(crate) fn length(&mut self) -> Result<usize, Damage> {
        let mut length = 0_usize;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.byte()?;
            length |= usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(length);
            }
        }
        Err(Damage::Value("length"))
    }

    pub(crate) fn str(&mut self) -> Result<&'a str, Damage> {
        let length = self.length()?;
        self.str_of(length)
    }

    /// How many bytes the next texts take with their lengths.
    pub(crate) fn bytes_of(&self, texts: usize) -> Result<usize, Damage> {
        let mut ahead = Cursor(self.0);
        for _ in 0..texts {
            let length = ahead.length()?;
            ahead.take(length)?;
        }
        Ok(self.0.len() - ahead.0.len())
    }

    pub(crate) fn text(&mut self) -> Result<String, Damage> {
        Ok(self.str()?.to_owned())
    }

    pub(crate) fn optional_text(&mut self) -> Result<Option<String>, Damage> {
        match self.length()? {
            0 => Ok(None),
            length => Ok(Some(self.str_of(length - 1)?.to_owned())),
        }
    }

    pub(crate) fn duration(&mut self) -> Result<Duration, Damage> {
        let seconds = u64::from_le_bytes(self.array()?);
        match u32::from_le_bytes(self.array()?) {
            nanos @ 0..1_000_000_000 => Ok(Duration::new(seconds, nanos)),
            _ => Err(Damage::Value("duration")),
        }
    }

    fn str_of(&mut self, length: usize) -> Result<&'a str, Damage> {
        std::str::from_utf8(self.take(length)?).map_err(|_| Damage::Text)
    }
}
