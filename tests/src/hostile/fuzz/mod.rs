//! Bytes choose the attack: each input becomes messages on a stream of a real
//! collector.
//!
//! An input that makes the collector answer as none did before is kept. What
//! fails is the collector's death, a panic, memory without end, or an honest
//! agent that waits: [`Failure`] has the inputs that were under way.

mod corpus;
mod login;
mod program;
mod run;

pub use corpus::Corpus;
pub use run::{Failure, Fuzz, Report, run};

/// What is fuzzed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Any message on any stream.
    Mesh,
    /// Credentials and facts.
    Login,
}

impl Subject {
    pub fn of(name: &str) -> Option<Subject> {
        match name {
            "mesh" => Some(Subject::Mesh),
            "login" => Some(Subject::Login),
            _ => None,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Subject::Mesh => "mesh",
            Subject::Login => "login",
        }
    }

    /// The stream that an input wants, and what it sends there.
    fn read(self, input: &[u8], token: &str) -> (Door, Vec<Vec<u8>>) {
        match self {
            Subject::Mesh => program::read(input, token),
            Subject::Login => (Door::Stranger, login::read(input, token)),
        }
    }
}

/// Where an input's messages go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    Stranger,
    Agent,
    Bulk,
    Gateway,
    Users,
    Operator,
}

/// An input, from its first byte to its last.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next byte; 0 at the end.
    fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((byte, rest)) => {
                self.0 = rest;
                *byte
            }
            None => 0,
        }
    }

    fn below(&mut self, count: u8) -> u8 {
        self.byte() % count.max(1)
    }

    fn word(&mut self) -> u64 {
        (0..8).fold(0, |word, _| word << 8 | u64::from(self.byte()))
    }

    /// Up to `count` bytes.
    fn take(&mut self, count: usize) -> Vec<u8> {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken.to_vec()
    }
}

/// Changes some bytes of a message.
fn flip(bytes: &mut Bytes<'_>, message: &mut [u8]) {
    for _ in 0..1 + bytes.below(4) {
        let at = usize::from(bytes.byte()) << 8 | usize::from(bytes.byte());
        let value = bytes.byte();
        let length = message.len().max(1);
        if let Some(byte) = message.get_mut(at % length) {
            *byte ^= value;
        }
    }
}
