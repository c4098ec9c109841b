//! What `lb sessions --json` prints.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// One session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session<'a> {
    /// The virtual server's name.
    pub virtual_server: &'a str,
    /// Its VIP.
    pub vip: IpAddr,
    /// `tcp` or `udp`.
    pub protocol: &'a str,
    /// The VIP's port that the client uses.
    pub port: u16,
    /// The client's address.
    pub client: IpAddr,
    /// The client's port.
    pub client_port: u16,
    /// The name of the real server that it is on.
    pub real_server: &'a str,
    /// That server's address.
    pub address: IpAddr,
    /// `opening`, `established` or `closing`.
    pub state: &'a str,
    /// Since it began, half a minute more or less.
    pub age_seconds: u64,
    /// Since the client's last packet.
    pub idle_seconds: u64,
}

/// Which sessions are wanted: those that all of it holds for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// Those of this VIP.
    pub vip: Option<IpAddr>,
    /// Those on this real server, by name or address.
    pub real: Option<String>,
    /// Those of this virtual server, by name.
    pub virtual_server: Option<String>,
}

impl Filter {
    /// Whether sessions of this virtual server are wanted.
    pub fn wants_virtual_server(&self, name: &str, vip: IpAddr) -> bool {
        self.vip.is_none_or(|wanted| wanted == vip)
            && self
                .virtual_server
                .as_ref()
                .is_none_or(|wanted| wanted == name)
    }

    /// Whether sessions on this real server are wanted.
    pub fn wants_real_server(&self, name: &str, address: IpAddr) -> bool {
        let is_wanted = |wanted: &String| wanted == name || wanted.parse() == Ok(address);
        self.real.as_ref().is_none_or(is_wanted)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{from_str, to_string};

    use super::*;

    /// Programs of operators read these keys: more may come, none may go.
    #[test]
    fn a_session_is_a_line_of_json_with_the_promised_keys() {
        let session = Session {
            virtual_server: "shop",
            vip: "10.9.1.1".parse().unwrap(),
            protocol: "tcp",
            port: 80,
            client: "2001:db8::1".parse().unwrap(),
            client_port: 40_000,
            real_server: "web-1",
            address: "10.9.0.11".parse().unwrap(),
            state: "opening",
            age_seconds: 34,
            idle_seconds: 1,
        };
        let line = to_string(&session).unwrap();
        assert_eq!(
            line,
            r#"{"virtual_server":"shop","vip":"10.9.1.1","protocol":"tcp","port":80,"client":"2001:db8::1","client_port":40000,"real_server":"web-1","address":"10.9.0.11","state":"opening","age_seconds":34,"idle_seconds":1}"#
        );
        assert_eq!(from_str::<Session<'_>>(&line).unwrap(), session);
    }

    #[test]
    fn a_real_server_is_wanted_by_name_or_by_address_however_that_is_written() {
        let address = "2001:db8::11".parse().unwrap();
        for (real, wanted) in [
            ("web-1", true),
            ("2001:DB8:0::11", true),
            ("web-10", false),
            ("2001:db8::12", false),
        ] {
            let filter = Filter {
                real: Some(real.to_owned()),
                ..Filter::default()
            };
            assert_eq!(filter.wants_real_server("web-1", address), wanted, "{real}");
        }
        assert!(Filter::default().wants_real_server("web-1", address));
    }

    #[test]
    fn a_filter_goes_through_a_query() {
        let filter = Filter {
            vip: Some("2001:db8::1".parse().unwrap()),
            real: Some("a b&vip=%".to_owned()),
            virtual_server: None,
        };
        let query = serde_urlencoded::to_string(&filter).unwrap();
        assert_eq!(serde_urlencoded::from_str(&query), Ok(filter));
    }
}
