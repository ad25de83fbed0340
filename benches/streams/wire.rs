use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

/// The limit: a socket, and the protocol written by hand.
pub(crate) struct Wire {
    stream: TcpStream,
    replies: BufReader<TcpStream>,
    out: Vec<u8>,
}

/// What a command answered, as far as the limit looks at it.
pub(crate) enum Answer {
    Nothing,
    Number(i64),
    Text(Vec<u8>),
    List(Vec<Answer>),
}

impl Wire {
    pub(crate) fn connect(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_nodelay(true).unwrap();
        let replies = BufReader::with_capacity(1 << 18, stream.try_clone().unwrap());
        Self {
            stream,
            replies,
            out: Vec::with_capacity(1 << 20),
        }
    }

    /// Adds a command to what is sent next.
    pub(crate) fn push(&mut self, words: &[&[u8]]) {
        write!(self.out, "*{}\r\n", words.len()).unwrap();
        for word in words {
            write!(self.out, "${}\r\n", word.len()).unwrap();
            self.out.extend_from_slice(word);
            self.out.extend_from_slice(b"\r\n");
        }
    }

    /// Sends what was added.
    pub(crate) fn flush(&mut self) {
        self.stream.write_all(&self.out).unwrap();
        self.out.clear();
    }

    pub(crate) fn command(&mut self, words: &[&[u8]]) -> Answer {
        self.push(words);
        self.flush();
        self.read()
    }

    pub(crate) fn read(&mut self) -> Answer {
        let mut line = Vec::with_capacity(32);
        self.replies.read_until(b'\n', &mut line).unwrap();
        let text = std::str::from_utf8(&line[1..line.len() - 2]).unwrap();
        match line[0] {
            b'+' => Answer::Text(text.as_bytes().to_vec()),
            b':' => Answer::Number(text.parse().unwrap()),
            b'$' if text == "-1" => Answer::Nothing,
            b'$' => {
                let mut bytes = vec![0; text.parse::<usize>().unwrap() + 2];
                self.replies.read_exact(&mut bytes).unwrap();
                bytes.truncate(bytes.len() - 2);
                Answer::Text(bytes)
            }
            b'*' if text == "-1" => Answer::Nothing,
            b'*' => {
                let count: usize = text.parse().unwrap();
                Answer::List((0..count).map(|_| self.read()).collect())
            }
            _ => panic!("{text}"),
        }
    }

    /// Adds an entry for each body, all in one piece, and waits for all answers.
    pub(crate) fn add<'b>(&mut self, stream: &[u8], bodies: impl Iterator<Item = &'b [u8]>) {
        let mut count = 0;
        for body in bodies {
            self.push(&[b"XADD", stream, b"*", b"m", body]);
            count += 1;
        }
        self.flush();
        for _ in 0..count {
            self.read();
        }
    }

    /// Reads up to 500 entries of the group, acknowledges and deletes them; how many.
    pub(crate) fn take(&mut self, stream: &[u8], group: &[u8]) -> usize {
        let read = self.command(&[
            b"XREADGROUP",
            b"GROUP",
            group,
            b"raw",
            b"COUNT",
            b"500",
            b"STREAMS",
            stream,
            b">",
        ]);
        let ids = ids(read);
        if ids.is_empty() {
            return 0;
        }
        let mut ack: Vec<&[u8]> = vec![b"XACK", stream, group];
        ack.extend(ids.iter().map(Vec::as_slice));
        self.push(&ack);
        let mut delete: Vec<&[u8]> = vec![b"XDEL", stream];
        delete.extend(ids.iter().map(Vec::as_slice));
        self.push(&delete);
        self.flush();
        self.read();
        self.read();
        ids.len()
    }
}

/// The ids of the entries of the first stream.
fn ids(answer: Answer) -> Vec<Vec<u8>> {
    let Answer::List(streams) = answer else {
        return Vec::new();
    };
    let first = streams.into_iter().next();
    let Some(Answer::List(stream)) = first else {
        return Vec::new();
    };
    let Some(Answer::List(entries)) = stream.into_iter().nth(1) else {
        return Vec::new();
    };
    let id = |entry| match entry {
        Answer::List(entry) => match entry.into_iter().next() {
            Some(Answer::Text(id)) => id,
            _ => panic!("an entry without an id"),
        },
        _ => panic!("no entry"),
    };
    entries.into_iter().map(id).collect()
}
