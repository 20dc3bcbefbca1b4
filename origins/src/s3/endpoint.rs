//! Where a bucket lies: the endpoint as a user writes it, and the place that it means.

/// What stands for AWS in a place, whatever the region: its bucket names are one namespace.
const AWS_PLACE: &str = "s3.amazonaws.com";
/// More than any URL of a service that answers; keeps a pasted file out of logs.
const URL_LEN_MAX: usize = 1024;

/// A parsed endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// The URL to send requests to; `None` for AWS, whose URL follows from the region.
    pub(super) url: Option<String>,
    /// Host in lower case, port where it is not the scheme's own, and the path if there is one.
    pub(super) place: String,
}

impl Endpoint {
    /// AWS itself.
    pub(super) fn aws() -> Self {
        Self {
            url: None,
            place: AWS_PLACE.to_owned(),
        }
    }

    /// Parses `http://host[:port][/path]`, or the same with https.
    ///
    /// # Errors
    /// What is wrong with it, in words that never repeat any of it: a URL may hold a password.
    pub(super) fn parse(url: &str) -> Result<Self, &'static str> {
        let plain = |byte: u8| byte.is_ascii_graphic() && !b"?#\"<>\\^`{|}".contains(&byte);
        if url.len() > URL_LEN_MAX || !url.bytes().all(plain) {
            return Err("its endpoint is no URL of a host, or has a query");
        }
        let Some((scheme, rest)) = url.split_once("://") else {
            return Err("its endpoint must start with http:// or https://");
        };
        let own_port = match scheme.to_ascii_lowercase().as_str() {
            "http" => ":80",
            "https" => ":443",
            _ => return Err("its endpoint must start with http:// or https://"),
        };
        let rest = rest.trim_end_matches('/');
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err("its endpoint has a user in it: credentials have other places");
        }
        let authority = authority.to_ascii_lowercase();
        let host = authority.strip_suffix(own_port).unwrap_or(&authority);
        if !is_host(host) {
            return Err("its endpoint names no host, or a wrong port");
        }
        Ok(Self {
            url: Some(format!("{scheme}://{authority}{path}")),
            place: format!("{host}{path}"),
        })
    }
}

/// A name, an IPv4 address or an IPv6 one in brackets, with a port or without.
fn is_host(text: &str) -> bool {
    let is_port = |port: &str| port.bytes().all(|b| b.is_ascii_digit()) && port.parse() != Ok(0u16);
    if let Some(rest) = text.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else {
            return false;
        };
        let port_fits = port.is_empty()
            || port
                .strip_prefix(':')
                .is_some_and(|port| is_port(port) && port.parse::<u16>().is_ok());
        return address.parse::<std::net::Ipv6Addr>().is_ok() && port_fits;
    }
    let (host, port) = text.split_once(':').unwrap_or((text, "80"));
    !host.is_empty() && is_port(port) && port.parse::<u16>().is_ok() && !host.contains(['[', ']'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_means_one_place() {
        for (url, place) in [
            ("http://127.0.0.1:8333", "127.0.0.1:8333"),
            ("https://S3.Example.org/", "s3.example.org"),
            ("https://s3.example.org:443", "s3.example.org"),
            ("http://s3.example.org:80", "s3.example.org"),
            ("https://s3.example.org:80", "s3.example.org:80"),
            ("http://[::1]:9000", "[::1]:9000"),
            (
                "https://x.example.co/storage/v1/s3",
                "x.example.co/storage/v1/s3",
            ),
        ] {
            assert_eq!(
                Endpoint::parse(url).map(|it| it.place).as_deref(),
                Ok(place),
                "{url}"
            );
        }
        assert_eq!(Endpoint::aws().place, "s3.amazonaws.com");
    }

    #[test]
    fn what_is_no_endpoint_is_refused_without_being_repeated() {
        for url in [
            "",
            "host",
            "host:8333",
            "ftp://host",
            "http://",
            "http:///x",
            "http://:80",
            "http://host:0",
            "http://host:x",
            "http://host:99999",
            "http://[::1",
            "http://[x]",
            "http://user:hunter2@host",
            "http://host/?key=hunter2",
            "http://ho st",
            "http://h\n",
        ] {
            let error = Endpoint::parse(url).unwrap_err();
            assert!(!error.contains("hunter2"), "{url}");
        }
    }
}
