use std::fmt::{Display, Write};

use bytes::BytesMut;

use super::Arg;

/// How much memory is taken at once.
const CHUNK: usize = 4096;

/// Short arguments, one behind the other in one piece of memory, so that neither making one nor
/// copying it takes an allocation.
pub(crate) struct Texts(BytesMut);

impl Default for Texts {
    fn default() -> Self {
        Self(BytesMut::with_capacity(CHUNK))
    }
}

impl Texts {
    pub(crate) fn text(&mut self, text: impl Display) -> Arg {
        // Memory is there, or the process is not.
        let _ = write!(self.0, "{text}");
        Arg::Bytes(self.0.split().freeze())
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Arg {
        self.0.extend_from_slice(bytes);
        Arg::Bytes(self.0.split().freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_kept_apart_beyond_one_piece_of_memory() {
        let mut texts = Texts::default();
        let numbers = 0..CHUNK;
        let args: Vec<_> = numbers.clone().map(|number| texts.text(number)).collect();
        let read = |arg: Arg| arg.as_bytes().map(<[u8]>::to_vec);
        for (arg, number) in args.into_iter().zip(numbers) {
            assert_eq!(read(arg), Some(number.to_string().into_bytes()));
        }
        assert_eq!(read(texts.bytes(&[0, 255])), Some(vec![0, 255]));
    }
}
