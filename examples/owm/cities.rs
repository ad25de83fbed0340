//! The cities, read from a CSV file. A row that cannot be read is told with its line number, and
//! stops no other.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use csv::{ReaderBuilder, StringRecord, Trim};

use super::outcome::Failure;

/// The list that comes with the examples.
pub(crate) fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data/cities.csv")
}

/// One city; its numbers are numbers, but nobody has looked yet whether they make sense.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct City {
    pub(crate) line: u64,
    pub(crate) id: i64,
    pub(crate) latitude_deg: f64,
    pub(crate) longitude_deg: f64,
    /// Empty where the list says nothing.
    pub(crate) country: String,
}

/// A row that gave no task.
#[derive(Debug)]
pub(crate) struct BadRow {
    pub(crate) line: u64,
    pub(crate) reason: String,
}

impl fmt::Display for BadRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.reason)
    }
}

/// What a file of cities holds.
#[derive(Debug, Default)]
pub(crate) struct CityList {
    pub(crate) cities: Vec<City>,
    pub(crate) bad: Vec<BadRow>,
}

/// Reads the whole list.
pub(crate) fn read(path: &Path) -> Result<CityList, Failure> {
    let unreadable = |error: csv::Error| {
        let path = path.display();
        Failure::Unusable(format!("cannot read the cities in {path}: {error}"))
    };
    let mut reader = ReaderBuilder::new()
        .trim(Trim::All)
        .from_path(path)
        .map_err(unreadable)?;
    let columns = Columns::find(reader.headers().map_err(unreadable)?, path)?;
    let mut list = CityList::default();
    for row in reader.records() {
        match row {
            Ok(row) => match columns.city(&row) {
                Ok(city) => list.cities.push(city),
                Err(bad) => list.bad.push(bad),
            },
            Err(error) if error.is_io_error() => return Err(unreadable(error)),
            Err(error) => list.bad.push(malformed(&error)),
        }
    }
    Ok(list)
}

/// Where in a row the fields are.
struct Columns {
    id: usize,
    latitude: usize,
    longitude: usize,
    country: Option<usize>,
}

impl Columns {
    fn find(header: &StringRecord, path: &Path) -> Result<Self, Failure> {
        let place = |name| header.iter().position(|column| column == name);
        let needed = |name| {
            place(name).ok_or_else(|| {
                let path = path.display();
                Failure::Unusable(format!(
                    "{path} has no column `{name}`; the columns geoname_id, latitude and longitude \
                     are needed"
                ))
            })
        };
        Ok(Self {
            id: needed("geoname_id")?,
            latitude: needed("latitude")?,
            longitude: needed("longitude")?,
            country: place("country"),
        })
    }

    fn city(&self, row: &StringRecord) -> Result<City, BadRow> {
        let country = self.country.and_then(|place| row.get(place));
        Ok(City {
            line: line(row.position()),
            id: number(row, self.id, "geoname_id")?,
            latitude_deg: number(row, self.latitude, "latitude")?,
            longitude_deg: number(row, self.longitude, "longitude")?,
            country: country.unwrap_or_default().to_owned(),
        })
    }
}

fn number<T: FromStr>(row: &StringRecord, place: usize, column: &str) -> Result<T, BadRow> {
    let text = row.get(place).unwrap_or_default();
    text.parse().map_err(|_| BadRow {
        line: line(row.position()),
        reason: format!("{column} `{text}` is not a number"),
    })
}

fn malformed(error: &csv::Error) -> BadRow {
    let reason = match error.kind() {
        csv::ErrorKind::UnequalLengths {
            expected_len, len, ..
        } => format!("has {len} fields where the header has {expected_len}"),
        csv::ErrorKind::Utf8 { .. } => "is not UTF-8".to_owned(),
        _ => error.to_string(),
    };
    BadRow {
        line: line(error.position()),
        reason,
    }
}

fn line(position: Option<&csv::Position>) -> u64 {
    position.map_or(0, csv::Position::line)
}
