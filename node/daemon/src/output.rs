//! What commands print: text for people, JSON for programs.

use std::io::{self, Write};

use serde_json::Value;

use crate::error::Error;

/// Which of the two a command prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Aligned text.
    Text,
    /// JSON: one value, or for what goes on one value a line.
    Json,
}

impl Format {
    /// The format that `--json` chooses.
    pub(crate) fn new(json: bool) -> Self {
        if json { Self::Json } else { Self::Text }
    }

    /// Prints one result: `value` as JSON, or what `text` makes.
    ///
    /// # Errors
    /// As [`write()`].
    pub(crate) fn print(self, value: &Value, text: impl FnOnce() -> String) -> Result<(), Error> {
        match self {
            Self::Text => write(text().as_bytes()),
            Self::Json => write(format!("{value:#}\n").as_bytes()),
        }
    }

    /// Prints one of results that come without end; false if nobody reads them any more.
    ///
    /// # Errors
    /// As [`write()`].
    pub(crate) fn stream(
        self,
        value: &Value,
        text: impl FnOnce() -> String,
    ) -> Result<bool, Error> {
        match self {
            Self::Text => write_open(text().as_bytes()),
            Self::Json => write_open(format!("{value}\n").as_bytes()),
        }
    }

    /// Prints one of several results: `value` as one line of JSON, or what `text` makes.
    ///
    /// # Errors
    /// As [`write()`].
    pub(crate) fn line(self, value: &Value, text: impl FnOnce() -> String) -> Result<(), Error> {
        match self {
            Self::Text => write(text().as_bytes()),
            Self::Json => write(format!("{value}\n").as_bytes()),
        }
    }
}

/// Writes to standard output. A reader that has gone (`| head`) is no error.
///
/// # Errors
/// [`Error::System`] for everything else, a full disk for one.
pub(crate) fn write(bytes: &[u8]) -> Result<(), Error> {
    write_open(bytes).map(drop)
}

/// The same; false if the reader has gone.
fn write_open(bytes: &[u8]) -> Result<bool, Error> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(true),
        Err(source) if source.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(source) => Err(Error::System {
            action: "write to standard output",
            source,
        }),
    }
}

/// Writes what is for people alone to standard error.
pub(crate) fn write_note(text: &str) {
    // Nobody there to read it is no reason to stop.
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Lines of `name  value`, the values under each other.
pub(crate) fn fields(fields: &[(&str, String)]) -> String {
    let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let line = |(name, value): &(&str, String)| format!("{name:width$}  {}\n", plain(value));
    fields.iter().map(line).collect()
}

/// Rows under a head, every column as wide as its widest cell.
pub(crate) fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let mut widths = head.map(str::len);
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let line = |cells: [&str; N]| {
        let padded = cells.iter().zip(widths);
        let padded: Vec<String> = padded
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        format!("{}\n", plain(padded.join("  ").trim_end()))
    };
    let mut text = line(head);
    for row in rows {
        text += &line(row.each_ref().map(String::as_str));
    }
    text
}

/// A text without what would move a terminal's cursor.
pub(crate) fn plain(text: &str) -> String {
    text.replace(|c: char| c.is_control(), "\u{fffd}")
}

/// A time in UTC, as RFC 3339 writes it: `2023-11-14T22:13:20Z`.
pub(crate) fn utc(unix: i64) -> String {
    let (days, second) = (unix.div_euclid(86_400), unix.rem_euclid(86_400));
    let (year, month, day) = date(days);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!(
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}Z",
        second % 60
    )
}

/// Year, month and day, `days` after 1970-01-01, in the Gregorian calendar.
fn date(days: i64) -> (i64, i64, i64) {
    // In years that begin in March a leap day is the last one, and five months have 153 days.
    let from_march_0000 = days + 719_468;
    let (era, day) = (
        from_march_0000.div_euclid(146_097),
        from_march_0000.rem_euclid(146_097),
    );
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + i64::from(month <= 2), month, day)
}

/// A size for people: `1.5 GiB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut units = UNITS.into_iter();
    let mut unit = units.next().unwrap_or_default();
    for next in units {
        if value < 1000.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    format!("{value:.1} {unit}")
}

/// A length of time for people, in its two largest units: `3 h 12 min`.
pub(crate) fn duration(seconds: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let first = UNITS.iter().position(|(unit, _)| seconds >= *unit);
    let first = first.unwrap_or(UNITS.len() - 1);
    let mut rest = seconds;
    let mut parts = Vec::new();
    for (unit, name) in UNITS.iter().skip(first).take(2) {
        let count = rest / unit;
        rest %= unit;
        if count > 0 || parts.is_empty() {
            parts.push(format!("{count} {name}"));
        }
    }
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits_and_a_unit() {
        let check = |bytes: u64, expect: &str| assert_eq!(size(bytes), expect);
        check(0, "0 B");
        check(1023, "1023 B");
        check(1536, "1.5 KiB");
        check(1 << 20, "1.0 MiB");
        check(10 << 30, "10.0 GiB");
        check(u64::MAX, "16.0 EiB");
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        let check = |unix: i64, expect: &str| assert_eq!(utc(unix), expect);
        check(0, "1970-01-01T00:00:00Z");
        check(-1, "1969-12-31T23:59:59Z");
        check(951_782_399, "2000-02-28T23:59:59Z");
        check(951_782_400, "2000-02-29T00:00:00Z");
        check(951_868_800, "2000-03-01T00:00:00Z");
        check(1_700_000_000, "2023-11-14T22:13:20Z");
        check(4_107_542_400, "2100-03-01T00:00:00Z");
        check(253_402_300_799, "9999-12-31T23:59:59Z");
    }

    #[test]
    fn durations_have_two_units() {
        let check = |seconds: u64, expect: &str| assert_eq!(duration(seconds), expect);
        check(0, "0 s");
        check(59, "59 s");
        check(60, "1 min");
        check(61, "1 min 1 s");
        check(11_520, "3 h 12 min");
        check(90_000, "1 d 1 h");
        check(86_400, "1 d");
    }

    #[test]
    fn tables_are_aligned_and_keep_control_characters_out() {
        let got = table(
            ["ID", "PATH"],
            &[
                ["nas".into(), "/a\u{1b}[2J".into()],
                ["x".into(), "/b".into()],
            ],
        );
        assert_eq!(got, "ID   PATH\nnas  /a\u{fffd}[2J\nx    /b\n");
        let got = fields(&[("a", "1".into()), ("long", "2".into())]);
        assert_eq!(got, "a     1\nlong  2\n");
    }
}
