//! Servers: their names and their URLs, in one form for each.

use std::net::Ipv6Addr;

use super::location::host_and_port;

/// Brings the URL of a server into its one form: scheme and host in lower case, no default port, no
/// slash at the end.
///
/// # Errors
/// What is wrong with it, without repeating it.
pub(super) fn parse_endpoint(text: &str) -> Result<String, &'static str> {
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err("its endpoint must start with http:// or https://");
    };
    let (scheme, default_port) = match scheme.to_ascii_lowercase().as_str() {
        "http" => ("http", 80),
        "https" => ("https", 443),
        _ => return Err("its endpoint must start with http:// or https://"),
    };
    let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '?' | '#' | '@');
    if rest.contains(odd) {
        return Err("its endpoint is a server's URL, such as https://s3.example.net");
    }
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (host, port) = host_and_port(authority)?;
    let host = match parse_host(host)? {
        address if address.contains(':') => format!("[{address}]"),
        name => name,
    };
    let port = match port {
        Some(port) if port != default_port => format!(":{port}"),
        _ => String::new(),
    };
    Ok(format!(
        "{scheme}://{host}{port}{}",
        path.trim_end_matches('/')
    ))
}

/// Brings a host's name into lower case, or an address out of its brackets.
///
/// # Errors
/// What is wrong with it, without repeating it.
pub(super) fn parse_host(text: &str) -> Result<String, &'static str> {
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    let host = bare.unwrap_or(text);
    if host.contains(':') || bare.is_some() {
        // Behind '%' is the name of an interface (RFC 4007 §11), whose case matters.
        let (address, zone) = match host.split_once('%') {
            Some((address, zone)) => (address, Some(zone)),
            None => (host, None),
        };
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let zone_is_legal = zone.is_none_or(|zone| !zone.is_empty() && zone.bytes().all(legal));
        return match address.parse::<Ipv6Addr>() {
            Ok(address) if zone_is_legal => {
                let zone = zone.map_or_else(String::new, |zone| format!("%{zone}"));
                Ok(format!("{address}{zone}"))
            }
            _ => Err("its host is neither a name nor an address"),
        };
    }
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let starts = host.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '_');
    if !starts || !host.bytes().all(legal) {
        return Err("its host is neither a name in ASCII nor an address");
    }
    Ok(host.trim_end_matches('.').to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_has_one_form() {
        let check = |text: &str, expect: &str| {
            assert_eq!(parse_endpoint(text).as_deref(), Ok(expect), "{text:?}");
        };
        check("https://s3.example.net", "https://s3.example.net");
        check("HTTPS://S3.Example.NET:443//", "https://s3.example.net");
        check("http://127.0.0.1:9000/", "http://127.0.0.1:9000");
        check("http://host:80/Gate/way/", "http://host/Gate/way");
        check("http://host:443", "http://host:443");
        check("http://[::0:1]:80", "http://[::1]");
        for bad in [
            "",
            "host:9000",
            "ftp://host",
            "http://",
            "http://host:0",
            "http://a b",
            "http://host?x=y",
            "http://user:pw@host",
        ] {
            assert!(parse_endpoint(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_host_is_a_name_or_an_address() {
        let check = |text: &str, expect: &str| {
            assert_eq!(parse_host(text).as_deref(), Ok(expect), "{text:?}");
        };
        check("NAS.Local.", "nas.local");
        check("10.0.0.1", "10.0.0.1");
        check("[FE80::1]", "fe80::1");
        check("fe80:0::1%Eth0", "fe80::1%Eth0");
        for bad in [
            "", "-x", "a b", "a/b", "a@b", "é", "::g", "[nas]", "::1%", "::1%a b", ".",
        ] {
            assert!(parse_host(bad).is_err(), "{bad:?}");
        }
    }
}
