//! HTTP checks, from schema to model.

use std::str::FromStr;

use hyper::http::uri::{Authority, PathAndQuery};
use hyper::http::{HeaderName, HeaderValue, header};
use regex::Regex;
use serde_yaml::Spanned;

use super::check::{Body, HttpCheck, Method, Tls};
use super::checks::{port, via};
use super::dns::DnsName;
use super::error::{Diagnostics, Position};
use super::schema::{self, Named};
use super::value::{Field, FromValue, Text, Value, Word};

const DEFAULT_STATUS: (u16, u16) = (200, 399);
/// They say how the request is sent, which isn't for the operator to choose.
const OWN_HEADERS: [HeaderName; 4] = [
    header::HOST,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
];

/// The check, if nothing is recorded.
pub fn http(written: &schema::HttpCheck, errors: &mut Diagnostics) -> HttpCheck {
    let path = errors.value("http.path", &written.path);
    let host = errors.value("http.host", &written.host);
    let method = errors
        .value("http.method", &written.method)
        .map(|Word(method)| *method);
    if let (Some(Method::Head), Some(field)) = (method, &written.method)
        && (written.body.is_some() || written.body_regex.is_some())
    {
        let problem = "http.method: the response to HEAD has no body: remove http.body and http.body_regex, or use get";
        errors.add(field, problem);
    }
    HttpCheck {
        via: via("http", &written.via, errors),
        port: port("http", &written.port, errors),
        tls: tls(written, host, errors),
        method: method.unwrap_or_default(),
        path: path.map_or("/".to_owned(), |UrlPath(path)| path.clone()),
        host: host.map(|Host(host)| host.to_string()),
        headers: headers(&written.headers, errors),
        status: written
            .status
            .as_ref()
            .map_or(vec![DEFAULT_STATUS], |written| status(written, errors)),
        body: body(written, errors),
    }
}

fn tls(written: &schema::HttpCheck, host: Option<&Host>, errors: &mut Diagnostics) -> Option<Tls> {
    let sni = errors.value("http.sni", &written.sni);
    let verify = errors.value("http.verify", &written.verify) == Some(&true);
    let without_tls = match &written.tls {
        None => true,
        field => errors.value("http.tls", field) == Some(&false),
    };
    let of_tls = [
        ("sni", written.sni.as_ref().map(Position::from)),
        ("verify", written.verify.as_ref().map(Position::from)),
    ];
    for (key, position) in of_tls {
        if let (true, Some(position)) = (without_tls, position) {
            errors.add(
                position,
                format!("http.{key} needs `tls: true`: add that, or remove it"),
            );
        }
    }
    if let (true, None, false, Some(field)) = (verify, &written.sni, without_tls, &written.verify)
        && !host.is_some_and(|Host(host)| is_host_name(host.host()))
    {
        let problem = "http.verify needs the name that the certificate is for: add `sni: NAME` or `host: NAME`";
        errors.add(field, problem);
    }
    (!without_tls).then(|| Tls {
        server_name: sni.map(|HostName(name)| name.clone()),
        verify,
    })
}

/// In the order of the file.
fn headers(
    written: &Option<Named<Field<HeaderText>>>,
    errors: &mut Diagnostics,
) -> Vec<(String, String)> {
    let mut entries: Vec<_> = written.iter().flatten().collect();
    entries.sort_by_key(|(name, _)| Position::from(*name));
    let mut headers = Vec::new();
    for (name, field) in entries {
        let text = &name.value;
        match HeaderName::from_str(text) {
            Ok(name) if !OWN_HEADERS.contains(&name) => {}
            Ok(header::HOST) => errors.add(
                name,
                "http.headers: expected `host: NAME` beside `headers`, found \"Host\"",
            ),
            Ok(_) => errors.add(
                name,
                format!("http.headers: {text} is for lb to set: remove it"),
            ),
            Err(_) => errors.add(
                name,
                format!(
                    "http.headers: expected the name of a header such as Accept, found \"{text}\""
                ),
            ),
        }
        if let Some(HeaderText(value)) =
            errors.parsed(field, &format!("http.headers.{text}"), &field.value)
        {
            headers.push((text.clone(), value.clone()));
        }
    }
    headers
}

/// One status or range, or a list of them.
fn status(written: &Spanned<Value>, errors: &mut Diagnostics) -> Vec<(u16, u16)> {
    const ONE: &str = "a status from 100 to 599 or a range such as 200-399";
    let one = |written: &Spanned<Value>, errors: &mut Diagnostics| {
        let range = status_range(&written.value);
        if range.is_none() {
            errors.add(
                written,
                format!("http.status: {}", written.value.expected(ONE)),
            );
        }
        range
    };
    match &written.value {
        Value::List(list) if list.is_empty() => {
            errors.add(
                written,
                format!("http.status: the list is empty: expected {ONE}"),
            );
            Vec::new()
        }
        Value::List(list) => list
            .iter()
            .filter_map(|element| one(element, errors))
            .collect(),
        _ => one(written, errors).into_iter().collect(),
    }
}

fn status_range(value: &Value) -> Option<(u16, u16)> {
    let (first, last) = match value {
        Value::Integer(code) => {
            let code = u16::try_from(*code).ok()?;
            (code, code)
        }
        Value::Text(text) => {
            let (first, last) = text.split_once('-')?;
            (first.parse().ok()?, last.parse().ok()?)
        }
        _ => return None,
    };
    (100 <= first && first <= last && last <= 599).then_some((first, last))
}

fn body(written: &schema::HttpCheck, errors: &mut Diagnostics) -> Option<Body> {
    let contains = errors.value("http.body", &written.body);
    let matches = errors.value("http.body_regex", &written.body_regex);
    if let (Some(_), Some(field)) = (&written.body, &written.body_regex) {
        errors.add(
            field,
            "http.body_regex: expected this or http.body, found both",
        );
    }
    let contains = contains.map(|Text(text)| Body::Contains(text.clone()));
    contains.or(matches.map(|Pattern(pattern)| Body::Matches(pattern.clone())))
}

fn is_host_name(text: &str) -> bool {
    DnsName::new(text).is_some_and(|name| name.is_host())
}

/// Path and query of a request.
#[derive(Debug, Clone)]
pub struct UrlPath(pub String);

impl FromValue for UrlPath {
    fn from_value(value: &Value) -> Result<Self, String> {
        const EXPECTED: &str = "a path that begins with `/`, without spaces and `#`";
        let text = value.text(EXPECTED)?;
        // What the parser doesn't take over is a fragment.
        let is_whole = PathAndQuery::from_str(text).is_ok_and(|path| path.as_str() == text);
        if is_whole && text.starts_with('/') {
            Ok(Self(text.to_owned()))
        } else {
            Err(value.expected(EXPECTED))
        }
    }
}

/// The header `Host`: name or address, and maybe a port.
#[derive(Debug, Clone)]
pub struct Host(pub Authority);

impl FromValue for Host {
    fn from_value(value: &Value) -> Result<Self, String> {
        const EXPECTED: &str = "a host such as example.com or example.com:8080";
        let text = value.text(EXPECTED)?;
        let is_host = |it: &Authority| {
            let has_port = it.port_u16().is_some();
            !it.host().is_empty() && !text.contains('@') && (has_port || it.host() == text)
        };
        let authority = Authority::from_str(text).ok().filter(is_host);
        authority.map(Self).ok_or_else(|| value.expected(EXPECTED))
    }
}

/// The name of a host, as TLS has it: without a dot at the end (RFC 6066 section 3).
#[derive(Debug, Clone)]
pub struct HostName(pub String);

impl FromValue for HostName {
    fn from_value(value: &Value) -> Result<Self, String> {
        const EXPECTED: &str = "the name of a host such as example.com";
        let text = value.text(EXPECTED)?;
        if is_host_name(text) && !text.ends_with('.') {
            Ok(Self(text.to_owned()))
        } else {
            Err(value.expected(EXPECTED))
        }
    }
}

/// The value of a header.
#[derive(Debug, Clone)]
pub struct HeaderText(pub String);

impl FromValue for HeaderText {
    fn from_value(value: &Value) -> Result<Self, String> {
        let Text(text) = Text::from_value(value)?;
        match HeaderValue::from_str(&text) {
            Ok(_) => Ok(Self(text)),
            Err(_) => Err(value.expected("visible characters of ASCII")),
        }
    }
}

/// A right regular expression.
#[derive(Debug, Clone)]
pub struct Pattern(pub String);

impl FromValue for Pattern {
    fn from_value(value: &Value) -> Result<Self, String> {
        let Text(text) = Text::from_value(value)?;
        match Regex::new(&text) {
            Ok(_) => Ok(Self(text)),
            Err(error) => {
                // The lines before the last one draw where it is.
                let error = error.to_string();
                let reason = error.lines().last().unwrap_or_default();
                let reason = reason.trim_start_matches("error: ");
                Err(format!(
                    "{}: {reason}",
                    value.expected("a regular expression")
                ))
            }
        }
    }
}
