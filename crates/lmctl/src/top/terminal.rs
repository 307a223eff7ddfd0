//! The screen of `top`: taken over on open, given back whatever happens.

use std::io::{self, Write as _};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use crossterm::event::{self, Event};
use crossterm::terminal::{disable_raw_mode, enable_raw_mode, size};
use tokio::sync::mpsc;

use super::view::{Kind, View};

/// Alternate screen, no cursor, no wrapping.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";
/// Keys that were typed and not looked at yet.
const EVENTS_MAX: usize = 64;

/// Whether there is something to give back.
static IS_OPEN: AtomicBool = AtomicBool::new(false);

pub struct Screen(());

impl Screen {
    pub fn open() -> io::Result<Screen> {
        static HOOK: Once = Once::new();
        // The default hook's message would vanish with the alternate screen.
        HOOK.call_once(|| {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |info| {
                restore();
                before(info);
            }));
        });
        enable_raw_mode()?;
        IS_OPEN.store(true, Ordering::SeqCst);
        let screen = Screen(());
        write(ENTER)?;
        Ok(screen)
    }

    pub fn draw(&mut self, view: &View) -> io::Result<()> {
        let (columns, rows) = size()?;
        let lines = view.render(columns.into(), rows.into());
        let mut text = "\x1b[H".to_owned();
        for (index, line) in lines.iter().enumerate() {
            if index > 0 {
                text.push_str("\r\n");
            }
            // Cleared first: at the right margin it would take a character.
            text.push_str("\x1b[2K");
            match line.kind {
                Kind::Text => text.push_str(&line.text),
                Kind::Head => text.push_str(&format!("\x1b[7m{}\x1b[0m", line.text)),
                Kind::Strong => text.push_str(&format!("\x1b[1m{}\x1b[0m", line.text)),
            }
        }
        write(&text)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

/// Once only: leaving twice would put the cursor back above a panic's message.
/// Errors have nowhere to go.
fn restore() {
    if !IS_OPEN.swap(false, Ordering::SeqCst) {
        return;
    }
    let _ = write(LEAVE);
    let _ = disable_raw_mode();
}

fn write(text: &str) -> io::Result<()> {
    let mut to = io::stdout().lock();
    to.write_all(text.as_bytes())?;
    to.flush()
}

/// Keys and resizes, read by a thread of their own, which ends with the
/// process or with the receiver.
pub fn events() -> mpsc::Receiver<Event> {
    let (tx, rx) = mpsc::channel(EVENTS_MAX);
    std::thread::spawn(move || {
        while let Ok(event) = event::read() {
            if tx.blocking_send(event).is_err() {
                return;
            }
        }
    });
    rx
}
