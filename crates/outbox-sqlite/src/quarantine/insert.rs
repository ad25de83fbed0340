//! One statement that puts many rows into quarantine.

use std::sync::LazyLock;

use sqlx::sqlite::{SqliteArguments, SqliteConnection};

use super::{Entry, json};
use crate::codec::jsonb::{Fields, Object};
use crate::error::Fault;

/// The most rows that one statement inserts.
const STATEMENT_ROWS: usize = 500;
/// About the most bytes that one statement inserts; a single larger row still goes.
const STATEMENT_BYTES: usize = 4 << 20;

impl Entry {
    /// All but the bytes, in the order of [`COLUMNS`].
    fn fields(&self) -> Result<[Field<'_>; COLUMNS.len()], Fault> {
        let message = self.message.as_ref();
        let aggregate = message.and_then(|m| m.aggregate.as_ref());
        let retry = message.and_then(|m| m.retry.as_ref());
        Ok([
            message.map(|m| m.id.as_bytes()).into(),
            Some(&*self.origin).into(),
            self.place.into(),
            self.imported_place.as_deref().into(),
            Some(self.seq).into(),
            Some(self.epoch).into(),
            message.map(|m| &*m.topic).into(),
            message.map(|m| &*m.kind.name).into(),
            message.map(|m| i64::from(m.kind.version)).into(),
            self.ordering_key.as_deref().into(),
            message.map(|m| &*m.content_type).into(),
            message.map(|m| json(&m.headers)).transpose()?.into(),
            aggregate.map(json).transpose()?.into(),
            retry.map(json).transpose()?.into(),
            message.map(|m| m.created_at.as_micros()).into(),
            message.map(|m| m.due_at.as_micros()).into(),
            Some(i64::from(self.attempts)).into(),
            Some(i64::from(self.redrives)).into(),
            Some(json(&self.history)?).into(),
            Some(self.first_failed_at.as_micros()).into(),
            Some(self.last_failed_at.as_micros()).into(),
            Some(&*self.kind).into(),
            Some(&*self.error).into(),
            Some(self.now.as_micros()).into(),
        ])
    }
}

/// What stands in a column.
#[derive(PartialEq)]
enum Field<'a> {
    Null,
    Integer(i64),
    Text(&'a str),
    Json(String),
    Id(&'a [u8; 16]),
}

impl From<Option<i64>> for Field<'_> {
    fn from(value: Option<i64>) -> Self {
        value.map_or(Self::Null, Self::Integer)
    }
}

impl<'a> From<Option<&'a str>> for Field<'a> {
    fn from(value: Option<&'a str>) -> Self {
        value.map_or(Self::Null, Self::Text)
    }
}

impl From<Option<String>> for Field<'_> {
    fn from(value: Option<String>) -> Self {
        value.map_or(Self::Null, Self::Json)
    }
}

impl<'a> From<Option<&'a [u8; 16]>> for Field<'a> {
    fn from(value: Option<&'a [u8; 16]>) -> Self {
        value.map_or(Self::Null, Self::Id)
    }
}

impl Field<'_> {
    fn write(&self, label: &mut Fields<'_>) {
        match self {
            Self::Null => label.integer(None),
            Self::Integer(value) => label.integer(Some(*value)),
            Self::Text(text) => label.text(Some(text)),
            Self::Json(text) => label.text(Some(text)),
            Self::Id(id) => label.text(Some(id)),
        };
    }

    fn bind(&self, query: Insert) -> Insert {
        match self {
            Self::Null => query.bind(None::<i64>),
            Self::Integer(value) => query.bind(*value),
            Self::Text(text) => query.bind((*text).to_owned()),
            Self::Json(text) => query.bind(text.clone()),
            Self::Id(id) => query.bind(id.to_vec()),
        }
    }
}

type Insert = sqlx::query::Query<'static, sqlx::Sqlite, SqliteArguments>;

const COLUMNS: [&str; 24] = [
    "id",
    "origin",
    "place",
    "imported_place",
    "seq",
    "epoch",
    "topic",
    "kind",
    "kind_version",
    "ordering_key",
    "content_type",
    "headers",
    "aggregate",
    "retry",
    "created_at",
    "due_at",
    "attempts",
    "redrives",
    "history",
    "first_failed_at",
    "last_failed_at",
    "error_kind",
    "error",
    "quarantined_at",
];

/// Many rows in one bound value: labels are arrays of the fields in which the rows differ, values the
/// bytes of payload or body. Two parameters a column say where in the label its field is or, where that
/// is nowhere, what it is in all rows.
///
/// Taking a field out of a label costs some five times as much as writing it into its column, and most
/// columns are the same in all rows. A label is taken out of the value once a row: taken out anew for
/// each column, it costs several times as much.
static INSERT: LazyLock<String> = LazyLock::new(|| {
    let field = |place: usize| {
        let (at, same) = (2 * place + 3, 2 * place + 4);
        format!("iif(?{at} IS NULL, ?{same}, label ->> ?{at})")
    };
    let others: Vec<_> = (1..COLUMNS.len()).map(field).collect();
    format!(
        "WITH rows (label, bytes) AS MATERIALIZED ( \
            SELECT CAST(key AS BLOB), CAST(value AS BLOB) FROM json_each(?1)) \
        INSERT INTO outbox_quarantine ({}, payload, body) \
        SELECT CAST({} AS BLOB), {}, iif(?2, bytes, NULL), iif(?2, NULL, bytes) FROM rows",
        COLUMNS.join(", "),
        field(0),
        others.join(", "),
    )
});

/// Adds `entries` to quarantine, in the transaction that `connection` is in.
pub(crate) async fn insert(
    connection: &mut SqliteConnection,
    entries: &[Entry],
) -> Result<(), Fault> {
    let mut rest = entries;
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at(fitting(rest));
        rest = after;
        // All that a statement needs is its own, so that no entry is borrowed while it waits.
        statement(chunk)?.execute(&mut *connection).await?;
    }
    Ok(())
}

/// Inserts `entries`, which are all readable or all not.
fn statement(entries: &[Entry]) -> Result<Insert, Fault> {
    let fields: Vec<_> = entries
        .iter()
        .map(Entry::fields)
        .collect::<Result<_, _>>()?;
    let same = |column: &usize| fields.iter().all(|row| row[*column] == fields[0][*column]);
    let differ: Vec<_> = (0..COLUMNS.len()).filter(|column| !same(column)).collect();
    let mut rows = Object::with_capacity(entries.iter().map(Entry::size_hint).sum());
    for (entry, fields) in entries.iter().zip(&fields) {
        let label = |out: &mut Vec<u8>| {
            let mut label = Fields::begin(out);
            for column in &differ {
                fields[*column].write(&mut label);
            }
            label.end();
        };
        rows.entry(label, |out| out.extend_from_slice(entry.bytes()));
    }
    let readable = entries.iter().any(|entry| entry.message.is_some());
    let mut query = sqlx::query(INSERT.as_str())
        .bind(rows.into_bytes())
        .bind(readable);
    let mut differ = differ.into_iter().zip(0_i64..).peekable();
    for (column, field) in fields[0].iter().enumerate() {
        let place = differ.next_if(|(differs, _)| *differs == column);
        query = query.bind(place.map(|(_, place)| place));
        query = field.bind(query);
    }
    Ok(query)
}

/// How many of `entries` one statement takes.
fn fitting(entries: &[Entry]) -> usize {
    let mut bytes = 0;
    let fits = |entry: &&Entry| {
        let fits = bytes == 0 || bytes < STATEMENT_BYTES;
        bytes += entry.size_hint();
        fits && entry.message.is_some() == entries[0].message.is_some()
    };
    entries.iter().take(STATEMENT_ROWS).take_while(fits).count()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use outbox_core::id::MessageId;
    use outbox_core::lease::{Epoch, Sequence};
    use outbox_core::message::{Headers, Kind, Message};
    use outbox_core::time::Timestamp;
    use sqlx::{Connection, Row};

    use super::*;

    fn entry(seq: i64, kind: &str) -> Entry {
        Entry {
            kind: kind.to_owned(),
            ..Entry::of_outbox(seq, 0, Timestamp::EPOCH)
        }
    }

    fn readable(seq: i64, kind: &str) -> Entry {
        let message = Message {
            id: MessageId::from_bytes([u8::try_from(seq).unwrap(); 16]),
            sequence: Sequence(1),
            epoch: Epoch(0),
            topic: "t".to_owned(),
            kind: Kind::new("k"),
            ordering_key: None,
            content_type: String::new(),
            headers: Headers::default(),
            payload: format!("payload {seq}").into(),
            aggregate: None,
            retry: None,
            created_at: Timestamp::EPOCH,
            due_at: Timestamp::EPOCH,
        };
        Entry {
            message: Some(message),
            ..entry(seq, kind)
        }
    }

    fn damaged(seq: i64, kind: &str) -> Entry {
        Entry {
            body: Some(Bytes::from(format!("body {seq}"))),
            ..entry(seq, kind)
        }
    }

    #[tokio::test]
    async fn what_is_readable_and_what_is_not_are_inserted_in_order() {
        let mut connection = SqliteConnection::connect(":memory:").await.unwrap();
        let schema = sqlx::AssertSqlSafe(crate::schema_sql());
        sqlx::raw_sql(schema)
            .execute(&mut connection)
            .await
            .unwrap();
        let entries = [
            readable(1, "same"),
            readable(2, "same"),
            damaged(3, "same"),
            damaged(4, "other"),
            readable(5, "last"),
        ];
        insert(&mut connection, &entries).await.unwrap();
        let sql = "SELECT seq, id, payload, body, error_kind FROM outbox_quarantine ORDER BY entry";
        let rows = sqlx::query(sql).fetch_all(&mut connection).await.unwrap();
        assert_eq!(rows.len(), entries.len());
        for (row, entry) in rows.iter().zip(&entries) {
            let message = entry.message.as_ref();
            assert_eq!(row.get::<i64, _>(0), entry.seq);
            let id = message.map(|m| m.id.as_bytes().to_vec());
            assert_eq!(row.get::<Option<Vec<u8>>, _>(1), id);
            let payload = message.map(|m| m.payload.to_vec());
            assert_eq!(row.get::<Option<Vec<u8>>, _>(2), payload);
            let body = entry.body.as_ref().map(|body| body.to_vec());
            assert_eq!(row.get::<Option<Vec<u8>>, _>(3), body);
            assert_eq!(row.get::<&str, _>(4), entry.kind);
        }
    }
}
