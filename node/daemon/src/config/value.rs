//! The values that are more than their type: checked where they are typed, flag or file.

use std::net::SocketAddr;

use musicfs_core::names::NAME_LEN_MAX;
use musicfs_core::template::Template;

use super::ConfigError;

/// The longest `root` in bytes: enough for any taste, far below the system's limit for paths.
const ROOT_LEN_MAX: usize = 1024;

/// Reads a umask: octal digits, at most 0777.
///
/// # Errors
/// [`ConfigError::Value`] for anything else.
pub(crate) fn parse_umask(text: &str) -> Result<u32, ConfigError> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    let octal = !digits.is_empty() && digits.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
    let value = u32::from_str_radix(digits, 8).ok();
    value
        .filter(|value| octal && *value <= 0o777)
        .ok_or_else(|| ConfigError::Value {
            key: "umask",
            value: text.to_owned(),
            expected: "write up to three octal digits, such as \"022\"",
        })
}

/// Reads a number of bytes: digits, and a unit of 1000 (`k M G T`) or 1024 (`Ki Mi Gi Ti`), both with
/// or without a `B` behind it.
///
/// # Errors
/// [`ConfigError::Value`] for anything else.
pub(crate) fn parse_size(key: &'static str, text: &str) -> Result<u64, ConfigError> {
    let wrong = || ConfigError::Value {
        key,
        value: text.to_owned(),
        expected: "write bytes, with a unit if need be, such as \"20G\" or \"512Mi\"",
    };
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim_start_matches(' ');
    let unit = unit.strip_suffix('B').unwrap_or(unit);
    let unit: u64 = match unit {
        "" => 1,
        "k" | "K" => 1000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(unit).ok_or_else(wrong)
}

/// Bytes as [`parse_size`] reads them, in the largest unit that divides them.
pub(super) fn size_text(bytes: u64) -> String {
    const UNITS: [(u64, &str); 8] = [
        (1 << 40, "Ti"),
        (1_000_000_000_000, "T"),
        (1 << 30, "Gi"),
        (1_000_000_000, "G"),
        (1 << 20, "Mi"),
        (1_000_000, "M"),
        (1 << 10, "Ki"),
        (1000, "k"),
    ];
    let divides = |unit: u64| bytes > 0 && bytes.is_multiple_of(unit);
    match UNITS.into_iter().find(|(unit, _)| divides(*unit)) {
        Some((unit, name)) => format!("{}{name}", bytes / unit),
        None => bytes.to_string(),
    }
}

/// Checks the sub-directory that is to hold the tree.
///
/// # Errors
/// [`ConfigError::Value`] unless it is one or more plain names with `/` between them.
pub(crate) fn parse_root(text: &str) -> Result<String, ConfigError> {
    let legal = |name: &str| (1..=NAME_LEN_MAX).contains(&name.len()) && !name.starts_with('.');
    let plain = text.split('/').all(legal) && text.len() <= ROOT_LEN_MAX;
    if !plain || text.contains(char::is_control) {
        return Err(ConfigError::Value {
            key: "root",
            value: text.to_owned(),
            expected: "write a directory such as \"Music\", without a leading slash or dot",
        });
    }
    Ok(text.to_owned())
}

/// Reads where to listen: an address and a port.
///
/// # Errors
/// [`ConfigError::Value`] for anything else; names are not looked up.
pub(crate) fn parse_listen(key: &'static str, text: &str) -> Result<SocketAddr, ConfigError> {
    text.parse().map_err(|_| ConfigError::Value {
        key,
        value: text.to_owned(),
        expected: "write an address and a port, such as \"127.0.0.1:9464\" or \"[::1]:9464\"",
    })
}

/// Checks a logging filter.
///
/// # Errors
/// [`ConfigError::Value`] if it is none.
pub(crate) fn parse_log(text: &str) -> Result<String, ConfigError> {
    match tracing_subscriber::EnvFilter::try_new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(ConfigError::Value {
            key: "log",
            value: text.to_owned(),
            expected: "write a level such as \"debug\", or a filter such as \"info,musicfs=trace\"",
        }),
    }
}

/// Checks a template.
///
/// # Errors
/// [`ConfigError::Template`] with the column of what is wrong.
pub(crate) fn parse_template(text: &str) -> Result<Template, ConfigError> {
    Template::parse(text).map_err(|source| ConfigError::Template {
        template: text.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_umask_is_octal_text() {
        let check = |text: &str, expect: Option<u32>| {
            assert_eq!(parse_umask(text).ok(), expect, "{text:?}");
        };
        check("022", Some(0o022));
        check("0o77", Some(0o077));
        check("0", Some(0));
        check("777", Some(0o777));
        for bad in ["", "8", "+7", "1000", "-1", "0x7", "rw"] {
            check(bad, None);
        }
        let got = parse_umask("9").unwrap_err();
        assert!(got.to_string().contains("octal"), "{got}");
    }

    #[test]
    fn a_size_has_a_unit_of_1000_or_1024() {
        let check = |text: &str, expect: Option<u64>| {
            assert_eq!(parse_size("cache_limit", text).ok(), expect, "{text:?}");
        };
        check("0", Some(0));
        check("1048576", Some(1 << 20));
        check("2k", Some(2000));
        check("2K", Some(2000));
        check("3 MB", Some(3_000_000));
        check("20G", Some(20_000_000_000));
        check("1T", Some(1_000_000_000_000));
        check("1Ki", Some(1024));
        check("512MiB", Some(512 << 20));
        check("10Gi", Some(10 << 30));
        check("16777215Ti", Some(16_777_215 << 40));
        for bad in [
            "",
            "G",
            "-1",
            "+1",
            "1.5G",
            "1g",
            "1 Gi b",
            "1e9",
            "0x10",
            "16777216Ti",
        ] {
            check(bad, None);
        }
        for bytes in [0, 1, 1000, 1024, 1536, 10 << 30, 3 << 40, u64::MAX] {
            check(&size_text(bytes), Some(bytes));
        }
        assert_eq!(size_text(10 << 30), "10Gi");
        assert_eq!(size_text(20_000_000_000), "20G");
        let got = parse_size("cache_limit", "lots").unwrap_err().to_string();
        assert!(got.contains("cache_limit") && got.contains("20G"), "{got}");
    }

    #[test]
    fn one_listens_on_an_address_and_a_port() {
        for good in ["127.0.0.1:9464", "0.0.0.0:0", "[::1]:9464", "[::]:1"] {
            let address = parse_listen("metrics_listen", good).unwrap();
            assert_eq!(address.to_string(), good);
        }
        for bad in [
            "",
            "9464",
            ":9464",
            "localhost:9464",
            "127.0.0.1",
            "::1:9464",
            "1.2.3.4:70000",
        ] {
            let error = parse_listen("metrics_listen", bad).unwrap_err();
            assert!(
                error.to_string().contains("metrics_listen"),
                "{bad:?}: {error}"
            );
        }
    }

    #[test]
    fn a_root_stays_inside_the_mount() {
        for good in ["Music", "a b/c", "日本"] {
            assert_eq!(parse_root(good).unwrap(), good);
        }
        for bad in ["", "/a", "a/", "a//b", "..", "a/../b", ".x", "a\0", "a\nb"] {
            assert!(parse_root(bad).is_err(), "{bad:?}");
        }
    }
}
