//! The values that are more than their type: checked where they are typed, flag or file.

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
    fn a_root_stays_inside_the_mount() {
        for good in ["Music", "a b/c", "日本"] {
            assert_eq!(parse_root(good).unwrap(), good);
        }
        for bad in ["", "/a", "a/", "a//b", "..", "a/../b", ".x", "a\0", "a\nb"] {
            assert!(parse_root(bad).is_err(), "{bad:?}");
        }
    }
}
