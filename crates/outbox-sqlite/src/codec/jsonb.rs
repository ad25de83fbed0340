//! SQLite's binary JSON, written by hand: how a whole batch goes into one bound value.
//!
//! A label or a text is handed through byte for byte, so that `CAST (... AS BLOB)` gives back
//! exactly what was put in, NUL bytes and broken UTF-8 among it.

/// A text whose bytes are taken as they are; four bytes of size follow.
const RAW_TEXT: u8 = 0xEA;
/// What stands for nothing.
const NULL: u8 = 0x00;
/// An array; four bytes of size follow.
const ARRAY: u8 = 0xEB;
/// An object; four bytes of size follow.
const OBJECT: u8 = 0xEC;
/// An integer in decimal digits; the high half-byte is its length.
const INTEGER: u8 = 0x03;

/// An object under construction: labels and values, in the order in which they are read again.
pub(crate) struct Object(Vec<u8>);

impl Object {
    /// An empty object with room for `bytes`.
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        let mut out = Vec::with_capacity(bytes + 5);
        open(&mut out, OBJECT);
        Self(out)
    }

    /// Adds an entry; both closures append their bytes.
    pub(crate) fn entry(
        &mut self,
        label: impl FnOnce(&mut Vec<u8>),
        value: impl FnOnce(&mut Vec<u8>),
    ) {
        raw(&mut self.0, label);
        raw(&mut self.0, value);
    }

    /// The bytes to bind.
    pub(crate) fn into_bytes(mut self) -> Vec<u8> {
        close(&mut self.0, 5);
        self.0
    }
}

/// An array under construction, for fields that SQL reads by their places.
pub(crate) struct Fields<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
}

impl<'a> Fields<'a> {
    /// An array at the end of `out`.
    pub(crate) fn begin(out: &'a mut Vec<u8>) -> Self {
        let start = open(out, ARRAY);
        Self { out, start }
    }

    /// Adds a text, byte for byte, or NULL.
    pub(crate) fn text<T: AsRef<[u8]>>(&mut self, text: Option<T>) -> &mut Self {
        match text {
            Some(text) => raw(self.out, |out| out.extend_from_slice(text.as_ref())),
            None => self.out.push(NULL),
        }
        self
    }

    /// Adds an integer, or NULL.
    pub(crate) fn integer(&mut self, value: Option<i64>) -> &mut Self {
        match value {
            Some(value) => integer(self.out, value),
            None => self.out.push(NULL),
        }
        self
    }

    /// Ends the array.
    pub(crate) fn end(self) {
        close(self.out, self.start);
    }
}

/// An array of integers.
pub(crate) fn integers(values: impl IntoIterator<Item = i64>) -> Vec<u8> {
    let mut out = Vec::new();
    let start = open(&mut out, ARRAY);
    values
        .into_iter()
        .for_each(|value| integer(&mut out, value));
    close(&mut out, start);
    out
}

fn integer(out: &mut Vec<u8>, value: i64) {
    let digits = value.to_string();
    // Lengths of up to 11 fit the half-byte; 12 says that one more byte tells it.
    match u8::try_from(digits.len()) {
        Ok(length @ 0..=11) => out.push(length << 4 | INTEGER),
        length => out.extend_from_slice(&[12 << 4 | INTEGER, length.unwrap_or(u8::MAX)]),
    }
    out.extend_from_slice(digits.as_bytes());
}

/// An array of texts, byte for byte.
pub(crate) fn texts<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut out = Vec::new();
    let start = open(&mut out, ARRAY);
    for value in values {
        raw(&mut out, |out| out.extend_from_slice(value));
    }
    close(&mut out, start);
    out
}

fn raw(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = open(out, RAW_TEXT);
    write(out);
    close(out, start);
}

fn open(out: &mut Vec<u8>, kind: u8) -> usize {
    out.extend_from_slice(&[kind, 0, 0, 0, 0]);
    out.len()
}

fn close(out: &mut [u8], start: usize) {
    let size = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
    out[start - 4..start].copy_from_slice(&size.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sqlx::{Connection, Row, SqliteConnection};

    use super::*;

    async fn read_back(json: Vec<u8>) -> Vec<(Option<Vec<u8>>, Vec<u8>)> {
        let mut connection = SqliteConnection::connect(":memory:").await.unwrap();
        sqlx::query("SELECT CAST(key AS BLOB), CAST(value AS BLOB) FROM json_each(?1)")
            .bind(json)
            .fetch_all(&mut connection)
            .await
            .unwrap()
            .iter()
            .map(|row| (row.get(0), row.get(1)))
            .collect()
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(future)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn any_bytes_come_back_from_an_object(
            entries in proptest::collection::vec(any::<(Vec<u8>, Vec<u8>)>(), 0..20),
        ) {
            let mut object = Object::with_capacity(0);
            for (label, value) in &entries {
                object.entry(|o| o.extend_from_slice(label), |o| o.extend_from_slice(value));
            }
            let read = block_on(read_back(object.into_bytes()));
            let wanted: Vec<_> = entries.into_iter().map(|(l, v)| (Some(l), v)).collect();
            prop_assert_eq!(read, wanted);
        }

        #[test]
        fn any_fields_come_back_from_a_label(
            text in any::<Option<Vec<u8>>>(), number in any::<Option<i64>>(), value in any::<Vec<u8>>(),
        ) {
            let mut object = Object::with_capacity(0);
            let label = |out: &mut Vec<u8>| {
                let mut fields = Fields::begin(out);
                fields.integer(number).text(text.as_ref()).integer(number);
                fields.end();
            };
            object.entry(label, |out| out.extend_from_slice(&value));
            let read = block_on(async {
                let mut connection = SqliteConnection::connect(":memory:").await.unwrap();
                let sql = "WITH rows (label, bytes) AS MATERIALIZED ( \
                    SELECT CAST(key AS BLOB), CAST(value AS BLOB) FROM json_each(?1)) \
                    SELECT label ->> 0, CAST(label ->> 1 AS BLOB), label ->> 2, bytes FROM rows";
                let row = sqlx::query(sql).bind(object.into_bytes());
                let row = row.fetch_one(&mut connection).await.unwrap();
                (row.get(0), row.get(1), row.get(2), row.get(3))
            });
            prop_assert_eq!(read, (number, text, number, value));
        }

        #[test]
        fn any_integers_come_back_from_an_array(values in any::<Vec<i64>>()) {
            let read = block_on(read_back(integers(values.iter().copied())));
            let read: Vec<i64> = read
                .iter()
                .map(|(_, digits)| std::str::from_utf8(digits).unwrap().parse().unwrap())
                .collect();
            prop_assert_eq!(read, values);
        }

        #[test]
        fn any_bytes_come_back_from_an_array(values in any::<Vec<Vec<u8>>>()) {
            let read = block_on(read_back(texts(values.iter().map(Vec::as_slice))));
            let read: Vec<_> = read.into_iter().map(|(_, value)| value).collect();
            prop_assert_eq!(read, values);
        }
    }
}
