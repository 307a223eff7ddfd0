use std::time::Duration;

use super::*;

fn admission(total: usize, per_ip: usize) -> Admission {
    let limits = Limits { connections_max: total, connections_per_ip_max: per_ip, ..Limits::default() };
    Admission::new(Arc::new(limits))
}

fn ip(last: u8) -> IpAddr {
    [10, 0, 0, last].into()
}

#[test]
fn who_never_sent_a_request_goes_first() {
    let admission = admission(2, 2);
    let start = Instant::now();
    let served = admission.admit(ip(1), start).unwrap();
    drop(served.connection.begin());
    let silent = admission.admit(ip(2), start + Duration::from_secs(1)).unwrap();
    let _new = admission.admit(ip(3), start + Duration::from_secs(2)).unwrap();
    assert_eq!(admission.len(), 2);
    assert!(!admission.locked().connections.contains_key(&silent.connection.id));
    assert!(admission.locked().connections.contains_key(&served.connection.id));
}

#[test]
fn busy_connections_are_never_given_up() {
    let admission = admission(2, 1);
    let now = Instant::now();
    let first = admission.admit(ip(1), now).unwrap();
    let busy = first.connection.begin();
    assert!(admission.admit(ip(1), now).is_none(), "over the bound of one address");
    let second = admission.admit(ip(2), now).unwrap();
    let _also_busy = second.connection.begin();
    assert!(admission.admit(ip(3), now).is_none(), "over the bound of all");
    drop(busy);
    let third = admission.admit(ip(3), now);
    assert!(third.is_some());
    assert_eq!(admission.len(), 2);
}

#[test]
fn places_are_counted_once_whoever_gives_them_up() {
    let admission = admission(8, 1);
    let now = Instant::now();
    let first = admission.admit(ip(1), now).unwrap();
    let second = admission.admit(ip(1), now).unwrap();
    drop(first);
    assert_eq!(admission.len(), 1);
    drop(second);
    assert_eq!(admission.len(), 0);
    assert!(admission.locked().per_ip.is_empty());
}

#[test]
fn time_bounds() {
    let limits = Limits::default();
    let admission = admission(8, 8);
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let place = admission.admit(ip(1), start).unwrap();
    let connection = &place.connection;
    assert!(!connection.is_overdue(&limits, at(10)));
    assert!(connection.is_overdue(&limits, at(11)), "sent nothing");

    let request = connection.begin();
    assert!(!connection.is_overdue(&limits, at(1000)), "the service may take its time");
    request.handed(Some(at(1000)));
    assert!(!connection.is_overdue(&limits, at(1030)));
    assert!(connection.is_overdue(&limits, at(1031)), "the client does not read");
    request.handed(None);
    assert!(!connection.is_overdue(&limits, at(2000)));
    drop(request);
    assert!(!connection.is_overdue(&limits, at(50)), "kept alive");
    connection.on_read(b"G", at(50));
    connection.on_read(b"E", at(58));
    assert!(connection.is_overdue(&limits, at(61)), "the next header takes too long");
}
