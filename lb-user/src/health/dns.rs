//! A DNS query over UDP (RFC 1035).

use hickory_proto::{
    ProtoError,
    op::{Header, Message, MessageType, Query, ResponseCode},
    rr::{Name, RecordType},
    serialize::binary::{BinDecodable, BinDecoder},
};

use super::{
    Failure,
    destination::{Awaited, Destination},
    socket_error::of_datagrams,
};
use crate::config::DnsCheck;

/// Bytes of an answer over UDP (RFC 1035 section 4.2.1).
const LONGEST: usize = 512;

/// Passes if the question is answered without an error, even if the answer is that there is no such record (NODATA,
/// RFC 2308 section 2.2): the server knows.
pub(super) async fn check(
    destination: Destination,
    asked: &DnsCheck,
    awaited: &Awaited,
) -> Result<(), Failure> {
    awaited.set("DNS answer");
    let query = query(asked).map_err(|error| Failure::Unsent(error.to_string()))?;
    let message = query.to_vec();
    let message = message.map_err(|error| Failure::Unsent(error.to_string()))?;
    let socket = destination.udp(asked.port)?;
    socket.send(&message).await.map_err(of_datagrams)?;
    let mut buffer = [0; LONGEST];
    loop {
        let length = socket.recv(&mut buffer).await.map_err(of_datagrams)?;
        match answer(&query, &buffer[..length]) {
            Some(ResponseCode::NoError) => return Ok(()),
            Some(code) => {
                let code = format!("{code:?}").to_uppercase();
                return Err(Failure::Answer(format!("answered {code}")));
            }
            // It may be a forgery, and the answer still on its way.
            None => {}
        }
    }
}

/// With an id that is random.
fn query(asked: &DnsCheck) -> Result<Message, ProtoError> {
    let mut name = Name::from_ascii(&asked.name)?;
    name.set_fqdn(true);
    let record: RecordType = asked.record.parse()?;
    let mut query = Message::query();
    query.metadata.recursion_desired = true;
    query.add_query(Query::query(name, record));
    Ok(query)
}

/// What this answers to the query; `None`: it is no answer to it. Its records don't matter, and may be cut off.
fn answer(query: &Message, bytes: &[u8]) -> Option<ResponseCode> {
    let mut decoder = BinDecoder::new(bytes);
    let header = Header::read(&mut decoder).ok()?;
    let count = usize::from(header.counts.queries);
    let questions = Message::read_queries(&mut decoder, count).ok()?;
    let code = header.response_code;
    // A server that can't make sense of a query doesn't repeat it.
    let is_about_it =
        questions == query.queries || questions.is_empty() && code != ResponseCode::NoError;
    let is_answer = header.message_type == MessageType::Response && header.id == query.metadata.id;
    (is_answer && is_about_it).then_some(code)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use hickory_proto::rr::{RData, Record, rdata::A};
    use rstest::rstest;

    use super::*;
    use crate::{
        config::Via,
        health::test_servers::{V4, V6, closed_udp_port, outcome_of, udp_server},
    };

    async fn outcome(address: IpAddr, port: u16) -> Result<(), Failure> {
        let asked = DnsCheck {
            via: Via::Real,
            port,
            name: "www.example.com".to_owned(),
            record: "A".to_owned(),
        };
        outcome_of(address, async |destination, awaited| {
            check(destination, &asked, awaited).await
        })
        .await
    }

    fn response(query: &[u8], code: ResponseCode) -> Message {
        let query = Message::from_vec(query).unwrap();
        assert!(query.metadata.recursion_desired);
        let mut response = query.into_response();
        response.metadata.response_code = code;
        response
    }

    fn bytes(messages: impl IntoIterator<Item = Message>) -> Vec<Vec<u8>> {
        let messages = messages.into_iter();
        messages.map(|it| it.to_vec().unwrap()).collect()
    }

    #[rstest]
    #[case::no_data(ResponseCode::NoError, None)]
    #[case::no_name(ResponseCode::NXDomain, Some("answered NXDOMAIN"))]
    #[case::failure(ResponseCode::ServFail, Some("answered SERVFAIL"))]
    #[case::refused(ResponseCode::Refused, Some("answered REFUSED"))]
    #[tokio::test]
    async fn an_answer_without_an_error_passes(
        #[values(V4, V6)] address: IpAddr,
        #[case] code: ResponseCode,
        #[case] failure: Option<&str>,
    ) {
        let port = udp_server(address, move |query| bytes([response(query, code)])).await;
        let expected = failure.map_or(Ok(()), |text| Err(Failure::Answer(text.to_owned())));
        assert_eq!(outcome(address, port).await, expected);
    }

    /// 100 records in a datagram of more than 512 bytes.
    #[tokio::test]
    async fn a_long_answer_passes() {
        let port = udp_server(V4, |query| {
            let mut response = response(query, ResponseCode::NoError);
            let name = response.queries[0].name.clone();
            let data = RData::A(A::new(192, 0, 2, 1));
            response.insert_answers(vec![Record::from_rdata(name, 60, data); 100]);
            bytes([response])
        })
        .await;
        assert_eq!(outcome(V4, port).await, Ok(()));
    }

    #[tokio::test]
    async fn what_does_not_answer_the_question_is_passed_over() {
        let port = udp_server(V4, |query| {
            let right = response(query, ResponseCode::NoError);
            let refused = response(query, ResponseCode::Refused);
            let mut other_id = refused.clone();
            other_id.metadata.id ^= 1;
            let mut other_question = refused.clone();
            other_question.queries[0].query_type = RecordType::AAAA;
            let mut no_question = right.clone();
            no_question.queries.clear();
            let mut echo = right.clone();
            echo.metadata.message_type = MessageType::Query;
            let mut answers = bytes([other_id, other_question, no_question, echo, right]);
            answers.insert(0, b"garbage".to_vec());
            answers
        })
        .await;
        assert_eq!(outcome(V4, port).await, Ok(()));
    }

    #[tokio::test]
    async fn a_server_that_does_not_understand_may_leave_the_question_out() {
        let port = udp_server(V4, |query| {
            let mut response = response(query, ResponseCode::FormErr);
            response.queries.clear();
            bytes([response])
        })
        .await;
        let failure = Failure::Answer("answered FORMERR".to_owned());
        assert_eq!(outcome(V4, port).await, Err(failure));
    }

    #[tokio::test]
    async fn a_wrong_answer_alone_is_silence() {
        let port = udp_server(V4, |query| {
            let mut response = response(query, ResponseCode::NoError);
            response.metadata.id ^= 0x8000;
            bytes([response])
        })
        .await;
        assert_eq!(outcome(V4, port).await, Err(Failure::Silence("DNS answer")));
    }

    #[rstest]
    #[tokio::test]
    async fn a_port_that_is_closed_is_unreachable(#[values(V4, V6)] address: IpAddr) {
        let (port, _socket) = closed_udp_port(address).await;
        let reason = "port unreachable".to_owned();
        assert_eq!(
            outcome(address, port).await,
            Err(Failure::Unreachable(reason))
        );
    }
}
