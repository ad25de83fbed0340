use bytes::Bytes;
use fred::types::Resp3Frame;

use crate::error::Fault;

/// What a server answered, read piece by piece, so that one odd piece spoils none of its neighbours.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Reply(Resp3Frame);

impl Reply {
    pub(crate) const NOTHING: Self = Self(Resp3Frame::Null);

    /// The reply in `frame`, or the text of the error in it.
    pub(super) fn new(frame: Resp3Frame) -> Result<Self, String> {
        match frame {
            Resp3Frame::SimpleError { data, .. } => Err(data.to_string()),
            Resp3Frame::BlobError { data, .. } => Err(String::from_utf8_lossy(&data).into_owned()),
            frame => Ok(Self(frame)),
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(self.0, Resp3Frame::Null)
    }

    /// The bytes of a text or blob.
    pub(crate) fn bytes(self) -> Result<Bytes, Fault> {
        match self.0 {
            Resp3Frame::BlobString { data, .. }
            | Resp3Frame::SimpleString { data, .. }
            | Resp3Frame::VerbatimString { data, .. } => Ok(data),
            other => Err(unexpected("a text", &other)),
        }
    }

    /// The bytes of a text or blob.
    pub(crate) fn as_bytes(&self) -> Result<&Bytes, Fault> {
        match &self.0 {
            Resp3Frame::BlobString { data, .. }
            | Resp3Frame::SimpleString { data, .. }
            | Resp3Frame::VerbatimString { data, .. } => Ok(data),
            other => Err(unexpected("a text", other)),
        }
    }

    /// The text of a text.
    pub(crate) fn text(self) -> Result<String, Fault> {
        let bytes = self.bytes()?;
        String::from_utf8(bytes.into()).map_err(|_| Fault::Reply {
            wanted: "a text",
            found: "not UTF-8".to_owned(),
        })
    }

    /// A whole number, also where it is written as a text.
    pub(crate) fn number(self) -> Result<i64, Fault> {
        if let Resp3Frame::Number { data, .. } = self.0 {
            return Ok(data);
        }
        let found = describe(&self.0);
        let wanted = "a whole number";
        let text = self.text()?;
        let number = text.parse();
        number.map_err(|_| Fault::Reply { wanted, found })
    }

    /// The pieces of a list; none where the reply is nothing.
    pub(crate) fn list(self) -> Result<impl ExactSizeIterator<Item = Self>, Fault> {
        let pieces = match self.0 {
            Resp3Frame::Array { data, .. } | Resp3Frame::Push { data, .. } => data,
            Resp3Frame::Set { data, .. } => data.into_iter().collect(),
            Resp3Frame::Map { data, .. } => data.into_iter().flat_map(<[_; 2]>::from).collect(),
            Resp3Frame::Null => Vec::new(),
            other => return Err(unexpected("a list", &other)),
        };
        Ok(pieces.into_iter().map(Self))
    }
}

fn unexpected(wanted: &'static str, found: &Resp3Frame) -> Fault {
    Fault::Reply {
        wanted,
        found: describe(found),
    }
}

/// A reply in words: its kind alone, because what is in it may be somebody's payload.
fn describe(frame: &Resp3Frame) -> String {
    let kind = match frame {
        Resp3Frame::Null => "nothing",
        Resp3Frame::Number { .. } => "a number",
        Resp3Frame::Array { .. } | Resp3Frame::Map { .. } | Resp3Frame::Set { .. } => "a list",
        Resp3Frame::BlobString { .. } | Resp3Frame::SimpleString { .. } => "a text",
        _ => "something else",
    };
    kind.to_owned()
}

#[cfg(test)]
impl From<Bytes> for Reply {
    fn from(data: Bytes) -> Self {
        let attributes = None;
        Self(Resp3Frame::BlobString { data, attributes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(text: &'static str) -> Reply {
        Reply::from(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn a_number_may_be_written_as_a_text() {
        assert_eq!(blob("-7").number().unwrap(), -7);
        assert!(blob("seven").number().is_err());
        assert!(Reply(Resp3Frame::Null).number().is_err());
    }

    #[test]
    fn a_list_that_is_not_there_is_empty() {
        assert_eq!(Reply(Resp3Frame::Null).list().unwrap().len(), 0);
        assert!(blob("x").list().is_err());
    }
}
