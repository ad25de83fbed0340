use std::io;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::BoxError;

/// What a server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nothing.
    Nil,
    /// A whole number.
    Number(i64),
    /// A text or blob.
    Text(Vec<u8>),
    /// An error.
    Error(String),
    /// A list of answers.
    List(Vec<Answer>),
}

impl Answer {
    /// Whether it is an error whose text begins with `word`.
    #[must_use]
    pub fn is_error(&self, word: &str) -> bool {
        matches!(self, Self::Error(text) if text.starts_with(word))
    }

    /// The number in it, also where it is written as a text.
    #[must_use]
    pub fn number(&self) -> Option<i64> {
        match self {
            Self::Number(number) => Some(*number),
            other => other.text()?.parse().ok(),
        }
    }

    /// The text in it.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        match self {
            Self::Text(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
            _ => None,
        }
    }

    /// The answers in a list; none where it is not one.
    #[must_use]
    pub fn list(self) -> Vec<Answer> {
        match self {
            Self::List(items) => items,
            _ => Vec::new(),
        }
    }
}

/// A connection that speaks the server's protocol and nothing more.
pub struct Wire {
    stream: BufReader<TcpStream>,
}

impl Wire {
    /// Connects to the server on this loopback port.
    ///
    /// # Errors
    /// Where it is not reached.
    pub async fn connect(port: u16) -> Result<Self, BoxError> {
        Self::to(&format!("redis://127.0.0.1:{port}")).await
    }

    /// Connects to the server at a plain URL, as `redis://127.0.0.1:6379`.
    ///
    /// # Errors
    /// Where it is not reached.
    pub async fn to(url: &str) -> Result<Self, BoxError> {
        let address = url.strip_prefix("redis://").ok_or("not a plain URL")?;
        let stream = TcpStream::connect(address.trim_end_matches('/')).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream: BufReader::with_capacity(1 << 16, stream),
        })
    }

    /// Sends one command and reads its answer.
    ///
    /// # Errors
    /// Where the connection ends.
    pub async fn command(&mut self, words: &[impl AsRef<[u8]>]) -> Result<Answer, BoxError> {
        let mut bytes = Vec::new();
        encode(words, &mut bytes);
        self.send(&bytes).await?;
        self.receive().await
    }

    /// Sends what [`encode`] made of any number of commands.
    ///
    /// # Errors
    /// Where the connection ends.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<(), BoxError> {
        Ok(self.stream.write_all(bytes).await?)
    }

    /// Reads the next answer.
    ///
    /// # Errors
    /// Where the connection ends, or what comes is not the protocol.
    pub async fn receive(&mut self) -> Result<Answer, BoxError> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line).await?;
        let line = line
            .strip_suffix(b"\r\n")
            .ok_or(io::Error::from(io::ErrorKind::UnexpectedEof))?;
        let (kind, rest) = line
            .split_first()
            .ok_or(io::Error::from(io::ErrorKind::InvalidData))?;
        let text = String::from_utf8_lossy(rest);
        match kind {
            b'+' => Ok(Answer::Text(rest.to_vec())),
            b'-' => Ok(Answer::Error(text.into_owned())),
            b':' => Ok(Answer::Number(text.parse()?)),
            b'$' => self.blob(text.parse()?).await,
            b'*' => self.items(text.parse()?).await,
            _ => Err(io::Error::from(io::ErrorKind::InvalidData).into()),
        }
    }

    async fn blob(&mut self, length: i64) -> Result<Answer, BoxError> {
        let Ok(length) = usize::try_from(length) else {
            return Ok(Answer::Nil);
        };
        let mut bytes = vec![0; length + 2];
        self.stream.read_exact(&mut bytes).await?;
        bytes.truncate(length);
        Ok(Answer::Text(bytes))
    }

    async fn items(&mut self, length: i64) -> Result<Answer, BoxError> {
        let Ok(length) = usize::try_from(length) else {
            return Ok(Answer::Nil);
        };
        let mut items = Vec::with_capacity(length);
        for _ in 0..length {
            items.push(Box::pin(self.receive()).await?);
        }
        Ok(Answer::List(items))
    }
}

/// Appends a command to `bytes` as it goes over the wire.
pub fn encode(words: &[impl AsRef<[u8]>], bytes: &mut Vec<u8>) {
    bytes.extend(format!("*{}\r\n", words.len()).into_bytes());
    for word in words {
        let word = word.as_ref();
        bytes.extend(format!("${}\r\n", word.len()).into_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
}
