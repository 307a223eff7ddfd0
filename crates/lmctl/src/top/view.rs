//! What `top` shows, as text. Nothing here asks or prints.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use lm_schema::operator::{CallFacts, MeshStatus, SessionFacts};

use crate::calls;
use crate::escape::{cell, cut, printable, width};
use crate::output::{age, padded, size, time_of_day, took};

/// One look at the collector.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// Since `top` began, by a clock that only goes forward.
    pub at: Duration,
    pub unix_ms: i64,
    pub status: MeshStatus,
    pub sessions: Vec<SessionFacts>,
    pub calls: Vec<CallFacts>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    Head,
    Strong,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub text: String,
    pub kind: Kind,
}

/// What changed a second, between two looks.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Rates {
    calls: f64,
    received: f64,
    sent: f64,
}

struct Row<'a> {
    facts: &'a SessionFacts,
    rates: Rates,
}

/// A column of sessions.
struct Column {
    name: &'static str,
    columns: usize,
    /// Shown from this width of the screen on.
    from: usize,
    is_number: bool,
    text: fn(&Row<'_>, i64) -> String,
    /// Numbers come largest first, text from A to Z.
    order: fn(&Row<'_>, &Row<'_>) -> Ordering,
}

const WIDE: usize = 140;
const IDENTITY: usize = 1;
const IDENTITY_COLUMNS_MAX: usize = 40;
/// Where the arrows begin.
const CALLS: usize = 3;

const COLUMNS: [Column; 13] = [
    Column {
        name: "SESSION",
        columns: 7,
        from: 0,
        is_number: false,
        text: |row, _| format!("s{}", row.facts.id),
        order: |a, b| a.facts.id.cmp(&b.facts.id),
    },
    Column {
        name: "IDENTITY",
        // Gets what the others leave.
        columns: 0,
        from: 0,
        is_number: false,
        text: |row, _| row.facts.identity.clone(),
        order: |a, b| a.facts.identity.cmp(&b.facts.identity),
    },
    Column {
        name: "ROLE",
        columns: 8,
        from: 0,
        is_number: false,
        text: |row, _| row.facts.role.clone(),
        order: |a, b| a.facts.role.cmp(&b.facts.role),
    },
    Column {
        name: "CALLS/S",
        columns: 7,
        from: 0,
        is_number: true,
        text: |row, _| rate(row.rates.calls),
        order: |a, b| b.rates.calls.total_cmp(&a.rates.calls),
    },
    Column {
        name: "IN/S",
        columns: 9,
        from: 0,
        is_number: true,
        text: |row, _| size(row.rates.received as u64),
        order: |a, b| b.rates.received.total_cmp(&a.rates.received),
    },
    Column {
        name: "OUT/S",
        columns: 9,
        from: 0,
        is_number: true,
        text: |row, _| size(row.rates.sent as u64),
        order: |a, b| b.rates.sent.total_cmp(&a.rates.sent),
    },
    Column {
        name: "NOW",
        columns: 4,
        from: 0,
        is_number: true,
        text: |row, _| row.facts.calls_in_flight.to_string(),
        order: |a, b| b.facts.calls_in_flight.cmp(&a.facts.calls_in_flight),
    },
    Column {
        name: "QUEUED",
        columns: 9,
        from: 0,
        is_number: true,
        text: |row, _| {
            if row.facts.role == "agent" { size(row.facts.queue_pending_bytes) } else { "-".to_owned() }
        },
        order: |a, b| b.facts.queue_pending_bytes.cmp(&a.facts.queue_pending_bytes),
    },
    Column {
        name: "RTT",
        columns: 7,
        from: 0,
        is_number: true,
        text: |row, _| took(row.facts.rtt_micros),
        order: |a, b| b.facts.rtt_micros.cmp(&a.facts.rtt_micros),
    },
    Column {
        name: "LOST",
        columns: 7,
        from: WIDE,
        is_number: true,
        text: |row, _| row.facts.lost_packets.to_string(),
        order: |a, b| b.facts.lost_packets.cmp(&a.facts.lost_packets),
    },
    Column {
        name: "CAPS",
        columns: 5,
        from: WIDE,
        is_number: true,
        text: |row, _| row.facts.capabilities.to_string(),
        order: |a, b| b.facts.capabilities.cmp(&a.facts.capabilities),
    },
    Column {
        name: "AGE",
        columns: 7,
        from: WIDE,
        is_number: true,
        text: |row, now| age(now - row.facts.connected_unix_ms),
        order: |a, b| a.facts.connected_unix_ms.cmp(&b.facts.connected_unix_ms),
    },
    Column {
        name: "PATH",
        columns: 40,
        from: WIDE,
        is_number: false,
        text: |row, _| format!("{} {}", row.facts.transport, row.facts.remote),
        order: |a, b| a.facts.remote.cmp(&b.facts.remote),
    },
];

/// The state of the screen.
pub struct View {
    collector: String,
    now: Sample,
    before: Option<Sample>,
    /// Why there is no newer sample; empty: there is.
    trouble: String,
    sort: usize,
    is_reversed: bool,
    /// Sessions above the first that is shown.
    offset: usize,
}

impl View {
    pub fn new(collector: &str, sample: Sample) -> Self {
        View {
            collector: collector.to_owned(),
            now: sample,
            before: None,
            trouble: String::new(),
            sort: CALLS,
            is_reversed: false,
            offset: 0,
        }
    }

    pub fn handle_sample(&mut self, sample: Sample) {
        self.before = Some(std::mem::replace(&mut self.now, sample));
        self.trouble.clear();
        self.offset = self.offset.min(self.now.sessions.len().saturating_sub(1));
    }

    /// A look that failed, for now.
    pub fn handle_trouble(&mut self, message: &str) {
        self.trouble = printable(message);
    }

    /// True when it is time to go.
    pub fn handle_key(&mut self, key: KeyEvent) -> bool {
        if key.kind == KeyEventKind::Release {
            return false;
        }
        let last = self.now.sessions.len().saturating_sub(1);
        let sorts = COLUMNS.len();
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return true,
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return true,
            KeyCode::Left => self.sort = (self.sort + sorts - 1) % sorts,
            KeyCode::Right => self.sort = (self.sort + 1) % sorts,
            KeyCode::Char('r') => self.is_reversed = !self.is_reversed,
            KeyCode::Up => self.offset = self.offset.saturating_sub(1),
            KeyCode::Down => self.offset = (self.offset + 1).min(last),
            KeyCode::PageUp => self.offset = self.offset.saturating_sub(10),
            KeyCode::PageDown => self.offset = (self.offset + 10).min(last),
            KeyCode::Home => self.offset = 0,
            KeyCode::End => self.offset = last,
            _ => {}
        }
        false
    }

    /// Exactly `rows` lines, none wider than `columns`.
    pub fn render(&self, columns: usize, rows: usize) -> Vec<Line> {
        let mut lines = self.summary(columns);
        let calls_room = (rows / 5).max(1);
        // Around the two lists: the summary, an empty line and a head for
        // each, and the line with the keys.
        let sessions_room = rows.saturating_sub(lines.len() + 5 + calls_room);
        lines.push(Line { text: self.trouble.clone(), kind: Kind::Strong });
        let (sessions, position) = self.sessions(columns, sessions_room);
        lines.extend(sessions);
        lines.push(plain(""));
        lines.extend(self.calls(columns, calls_room));
        lines.truncate(rows.saturating_sub(1));
        while lines.len() + 1 < rows {
            lines.push(plain(""));
        }
        let order = if self.is_reversed { ", reversed" } else { "" };
        let sort = COLUMNS[self.sort].name;
        let keys = format!("q quit   left/right sort: {sort}{order}   r reverse   up/down {position}");
        lines.push(Line { text: keys, kind: Kind::Strong });
        lines.truncate(rows);
        for line in &mut lines {
            line.text = cut(&line.text, columns);
        }
        lines
    }

    fn summary(&self, columns: usize) -> Vec<Line> {
        let status = &self.now.status;
        let (mut total, mut in_flight) = (Rates::default(), 0);
        for row in self.rows() {
            total.received += row.rates.received;
            total.sent += row.rates.sent;
            in_flight += row.facts.calls_in_flight;
        }
        if let Some(before) = &self.before {
            total.calls = per_second(status.calls, before.status.calls, self.now.at, before.at);
        }
        let up = age(i64::try_from(status.uptime_ms).unwrap_or(i64::MAX));
        let left =
            format!("lmctl top   {}   {}, up {up}", printable(&self.collector), cell(&status.version, 20));
        let clock = time_of_day(self.now.unix_ms);
        let clock = format!("{} UTC", &clock[..8]);
        let first = format!("{}{clock}", padded(&left, columns.saturating_sub(clock.len())));
        let bar = bar(status.budget_bytes, status.budget_bytes_max);
        vec![
            Line { text: first, kind: Kind::Strong },
            plain(&format!(
                "sessions {}   capabilities {}   denied {}   refused {} logins, {} calls   panics {}",
                self.now.sessions.len(),
                status.capabilities,
                status.denials,
                status.logins_refused,
                status.calls_refused,
                status.panics
            )),
            plain(&format!(
                "calls {}/s, {in_flight} in flight   in {}/s   out {}/s",
                rate(total.calls),
                size(total.received as u64),
                size(total.sent as u64)
            )),
            plain(&format!(
                "budget [{bar}] {} of {}, waited for {} times",
                size(status.budget_bytes),
                size(status.budget_bytes_max),
                status.budget_waits
            )),
        ]
    }

    fn rows(&self) -> Vec<Row<'_>> {
        let before: HashMap<u64, &SessionFacts> = match &self.before {
            Some(sample) => sample.sessions.iter().map(|facts| (facts.id, facts)).collect(),
            None => HashMap::new(),
        };
        let then = self.before.as_ref().map_or(Duration::ZERO, |sample| sample.at);
        let rates = |facts: &SessionFacts| match before.get(&facts.id) {
            None => Rates::default(),
            Some(old) => Rates {
                calls: per_second(facts.calls, old.calls, self.now.at, then),
                received: per_second(facts.bytes_received, old.bytes_received, self.now.at, then),
                sent: per_second(facts.bytes_sent, old.bytes_sent, self.now.at, then),
            },
        };
        self.now.sessions.iter().map(|facts| Row { facts, rates: rates(facts) }).collect()
    }

    /// A head and `room` lines; and which of how many they are.
    fn sessions(&self, columns: usize, room: usize) -> (Vec<Line>, String) {
        let shown: Vec<(usize, &Column)> =
            COLUMNS.iter().enumerate().filter(|(_, column)| columns >= column.from).collect();
        let fixed: usize = shown.iter().map(|(_, column)| column.columns + 1).sum();
        let identity = columns.saturating_sub(fixed).clamp(4, IDENTITY_COLUMNS_MAX);
        let line = |text: &dyn Fn(&Column) -> String| {
            let cells = shown.iter().map(|(index, column)| {
                let room = if *index == IDENTITY { identity } else { column.columns };
                let text = cell(&text(column), room);
                let missing = " ".repeat(room - width(&text));
                if column.is_number { format!("{missing}{text}") } else { format!("{text}{missing}") }
            });
            cells.collect::<Vec<_>>().join(" ")
        };
        let mut rows = self.rows();
        let order = COLUMNS[self.sort].order;
        rows.sort_by(|a, b| {
            let ordering = order(a, b);
            let ordering = if self.is_reversed { ordering.reverse() } else { ordering };
            ordering.then(a.facts.id.cmp(&b.facts.id))
        });
        let offset = self.offset.min(rows.len().saturating_sub(room));
        let last = (offset + room).min(rows.len());
        let position = format!("{}-{last} of {}", (offset + 1).min(last), rows.len());
        let head = line(&|column| column.name.to_owned());
        let mut lines = vec![Line { text: padded(&head, columns), kind: Kind::Head }];
        let now = self.now.unix_ms;
        let texts = rows.iter().skip(offset).take(room).map(|row| plain(&line(&|c| (c.text)(row, now))));
        lines.extend(texts);
        lines.resize(room + 1, plain(""));
        (lines, position)
    }

    fn calls(&self, columns: usize, room: usize) -> Vec<Line> {
        let head = format!("{:>9} {:8} {:8} {}", "TOOK", "STATE", "CAP", "SLOWEST CALLS");
        let mut lines = vec![Line { text: padded(&head, columns), kind: Kind::Head }];
        // Long polls are slow on purpose.
        let mut slow: Vec<&CallFacts> = self.now.calls.iter().filter(|call| !call.is_waiting).collect();
        slow.sort_by_key(|call| (!call.is_in_flight, std::cmp::Reverse(call.micros)));
        lines.extend(slow.iter().take(room).map(|call| {
            let what = format!("{}.{}  {}  {}", call.interface, call.method, call.holder, call.error);
            plain(&format!(
                "{:>9} {:8} {:8} {}",
                took(call.micros),
                calls::state(call),
                format!("c{}", call.capability),
                printable(what.trim_end())
            ))
        }));
        lines
    }
}

fn plain(text: &str) -> Line {
    Line { text: text.trim_end().to_owned(), kind: Kind::Text }
}

fn per_second(now: u64, before: u64, at: Duration, then: Duration) -> f64 {
    let seconds = at.saturating_sub(then).as_secs_f64();
    if seconds > 0.0 { now.saturating_sub(before) as f64 / seconds } else { 0.0 }
}

/// `"0"`, `"0.5"`, `"12"`, `"3.2k"`.
fn rate(value: f64) -> String {
    match value {
        0.0 => "0".to_owned(),
        value if value < 10.0 => format!("{value:.1}"),
        value if value < 10_000.0 => format!("{value:.0}"),
        value if value < 1e7 => format!("{:.1}k", value / 1e3),
        value => format!("{:.1}M", value / 1e6),
    }
}

fn bar(used: u64, of: u64) -> String {
    const COLUMNS: u64 = 20;
    let filled = match of {
        0 => 0,
        of => u128::from(used.min(of)) * u128::from(COLUMNS) / u128::from(of),
    } as usize;
    format!("{}{}", "#".repeat(filled), "-".repeat(COLUMNS as usize - filled))
}

#[cfg(test)]
mod tests;
