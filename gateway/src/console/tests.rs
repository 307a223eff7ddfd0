use super::*;

fn parse(list: &str, query: &str) -> Result<ConsoleQuestion, Failure> {
    ConsoleQuestion::parse(list, &Params::parse(b"", query.as_bytes()).unwrap())
}

#[test]
fn parameters_mean_what_they_say() {
    let page = |after, limit| Page { after, limit };
    assert_eq!(
        parse("sessions", "after=s3&limit=2&identity=web-1&role=agent"),
        Ok(ConsoleQuestion::Sessions {
            page: page(3, 2),
            identity: "web-1".to_owned(),
            role: "agent".to_owned()
        })
    );
    let filter = CapabilityFilter { session: 7, interface: "Reader".to_owned(), holder: "alice".to_owned() };
    assert_eq!(
        parse("capabilities", "session=7&interface=Reader&holder=alice"),
        Ok(ConsoleQuestion::Capabilities { page: page(0, LIMIT), filter })
    );
    assert_eq!(
        parse("calls", "over=10ms&state=in_flight&limit=1000"),
        Ok(ConsoleQuestion::Calls { over_micros: 10_000, is_in_flight: Some(true), limit: 1000 })
    );
    assert_eq!(parse("status", ""), Ok(ConsoleQuestion::Status));
}

#[test]
fn a_bad_parameter_is_named() {
    let long = format!("identity={}", "x".repeat(257));
    let cases = [
        ("sessions", "after=x", "after"),
        ("sessions", "after=-1", "after"),
        ("sessions", "after=c3", "after"),
        ("sessions", "after=18446744073709551616", "after"),
        ("sessions", "limit=0", "limit"),
        ("sessions", "limit=1001", "limit"),
        ("sessions", "limit=many", "limit"),
        ("sessions", &long, "identity"),
        ("sessions", "holder=alice", "holder"),
        ("capabilities", "session=c1", "session"),
        ("capabilities", "interfaces=Reader", "interfaces"),
        ("calls", "over=soon", "over"),
        ("calls", "state=slow", "state"),
        ("calls", "after=1", "after"),
        ("status", "limit=1", "limit"),
    ];
    for (list, query, name) in cases {
        let failure = parse(list, query).unwrap_err();
        assert_eq!(failure.kind, FailureKind::BadData, "{list}?{query}");
        assert!(failure.message.starts_with(&format!("invalid parameter {name:?}:")), "{failure}");
    }
    assert_eq!(parse("nothing", "").unwrap_err().kind, FailureKind::NotFound);
}
