//! `/proc/<pid>/stat`: one line about a process.

use super::read::{number, words};

/// What the kernel says of one process.
pub struct ProcessStat<'a> {
    /// The name of its program, at most 15 bytes.
    pub program: &'a [u8],
    pub is_kernel_thread: bool,
    pub user_ticks: u64,
    pub system_ticks: u64,
    /// Since boot.
    pub start_ticks: u64,
    pub virtual_bytes: u64,
    pub resident_pages: u64,
}

/// `PF_KTHREAD` of the kernel's `include/linux/sched.h`.
const KERNEL_THREAD: u64 = 0x0020_0000;

/// Numbers after the program's name, which is in parentheses and may hold
/// spaces and parentheses itself. `proc_pid_stat(5)` counts fields from one
/// and the name is the second, so its field *n* is at *n* - 3 here.
pub fn parse_stat(bytes: &[u8]) -> Option<ProcessStat<'_>> {
    let name_end = bytes.iter().rposition(|byte| *byte == b')')?;
    let name_start = bytes.iter().position(|byte| *byte == b'(')?;
    let program = bytes.get(name_start + 1..name_end)?;
    let mut fields = words(bytes[name_end + 1..].trim_ascii_end());
    let is_kernel_thread = number(fields.nth(9 - 3)?)? & KERNEL_THREAD != 0;
    let user_ticks = number(fields.nth(14 - 10)?)?;
    let system_ticks = number(fields.next()?)?;
    let start_ticks = number(fields.nth(22 - 16)?)?;
    let virtual_bytes = number(fields.next()?)?;
    let resident_pages = number(fields.next()?)?;
    Some(ProcessStat {
        program,
        is_kernel_thread,
        user_ticks,
        system_ticks,
        start_ticks,
        virtual_bytes,
        resident_pages,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_fields() {
        let line = b"10 (a b) c) S 1 2 3 4 5 6 7 8 9 10 1677 44 0 0 20 0 1 0 82375 56274944 1981 184\n";
        let stat = parse_stat(line).unwrap();
        assert_eq!((stat.program, stat.is_kernel_thread), (&b"a b) c"[..], false));
        assert_eq!((stat.user_ticks, stat.system_ticks, stat.start_ticks), (1677, 44, 82375));
        assert_eq!((stat.virtual_bytes, stat.resident_pages), (56_274_944, 1981));
        assert!(parse_stat(&line[..40]).is_none());
        assert!(parse_stat(b"").is_none());
        assert!(parse_stat(b"1 )x( S").is_none());
    }
}
