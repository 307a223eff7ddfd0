//! Opening a log: what is durable, what is damaged, what never happened.
//!
//! ```text
//! where a segment ends:   said by the next segment's header  >  its own footer  >  the torn-tail rule
//! torn-tail rule (last segment, no footer): D = largest `durable through` of its valid records;
//!   the first damaged range that starts at or behind D is the torn tail, everything before it is corruption
//! ```
//!
//! Opening never deletes anything it does not understand. A read error is an error, never damage: a disk that is
//! briefly away must not make us cut a segment short. Only bytes that cannot be read while others can are given up,
//! see [`super::salvage`]; they are no torn tail, wherever they are.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::Path;

use super::{Log, LogOptions, Quarantined, Recovered, Segment, head, salvage};
use crate::format::{
    self, FORMAT_VERSION, HeaderRead, KIND_FOOTER, RECORD_HEADER_BYTES, SEGMENT_HEADER_BYTES, SegmentHeader,
    file_name, parse_name,
};
use crate::scan::{Scan, is_zero, scan};
use crate::{Error, RecordHeader, SegmentId};
use lm_fs::{File, Fs, read_full, write_all};

/// Quarantined files kept for inspection; the oldest are removed beyond that.
const QUARANTINE_FILES_MAX: usize = 16;

impl<F: Fs> Log<F> {
    /// Opens the log in `dir`, creating the directory if needed and taking its lock.
    ///
    /// Makes everything that is found durable and cuts off a torn tail. Creates no segment: the first append needs
    /// a roll.
    ///
    /// # Errors
    ///
    /// `Locked`, `Version` and `Io`. Damaged contents are not an error: see [`Recovered`].
    pub fn open(fs: F, dir: &Path, options: LogOptions) -> Result<(Log<F>, Recovered), Error> {
        fs.create_dir(dir).map_err(Error::io("create directory", dir))?;
        let lock_path = dir.join("lock");
        let lock = fs.lock(&lock_path).map_err(|source| {
            if source.kind() == io::ErrorKind::WouldBlock {
                Error::Locked { path: dir.to_path_buf() }
            } else {
                Error::Io { action: "lock", path: lock_path, source }
            }
        })?;
        let names = fs.list(dir).map_err(Error::io("list", dir))?;
        let mut ids: Vec<SegmentId> = names.iter().filter_map(|name| parse_name(name, ".seg")).collect();
        let mut quarantine: Vec<_> =
            names.iter().filter_map(|name| parse_name(name, ".quarantine")).collect();
        quarantine.sort_unstable();
        let last_id = ids.iter().chain(&quarantine).max().copied().unwrap_or(0);

        let mut log = Log {
            fs,
            dir: dir.to_path_buf(),
            options,
            segments: BTreeMap::new(),
            active: None,
            orphans: Vec::new(),
            previous: (0, 0),
            next_id: last_id.saturating_add(1),
            void: Vec::new(),
            preamble_bytes: 0,
            _lock: lock,
        };
        for id in names.iter().filter_map(|name| parse_name(name, salvage::SUFFIX)) {
            if ids.contains(&id) {
                // Not known to be complete.
                let copy = log.salvage_path(id);
                log.fs.remove(&copy).map_err(Error::io("remove", &copy))?;
            } else {
                log.finish_salvage(id)?;
                ids.push(id);
            }
        }
        ids.sort_unstable();
        let mut recovered = Recovered::default();
        let headers = log.read_headers(&ids, &mut recovered)?;
        // Newest first: the torn-tail rule is for the last segment that exists at all.
        for &id in ids.iter().rev() {
            if headers.values().flatten().any(|next| next.previous_id < id && id < next.id) {
                log.discard(id);
                continue;
            }
            match log.recover_segment(id, &headers, &mut recovered) {
                Err(error) if error.is_unreadable() => {
                    log.salvage(id, &mut recovered)?;
                    log.recover_segment(id, &headers, &mut recovered)?;
                }
                other => other?,
            }
        }
        // A process may have died between making a file and syncing its name.
        log.fs.sync_dir(dir).map_err(Error::io("sync directory", dir))?;
        quarantine.extend(
            recovered
                .quarantined_files
                .iter()
                .filter_map(|path| parse_name(path.file_name()?.to_str()?, ".quarantine")),
        );
        for id in quarantine.iter().rev().skip(QUARANTINE_FILES_MAX) {
            let _ = log.fs.remove(&log.quarantine_path(*id));
        }
        if let Some(last) = log.segments.values().next_back() {
            log.previous = (last.id, last.end);
        }
        recovered.quarantined.sort_by_key(|bytes| (bytes.segment, bytes.range.start));
        recovered.segments = log.segments.values().cloned().collect();
        Ok((log, recovered))
    }

    fn read_headers(
        &mut self,
        ids: &[SegmentId],
        recovered: &mut Recovered,
    ) -> Result<BTreeMap<SegmentId, Option<SegmentHeader>>, Error> {
        let mut headers = BTreeMap::new();
        for &id in ids {
            let path = self.path(id);
            let bytes = match self.read_head(id) {
                Err(error) if error.is_unreadable() => {
                    self.salvage(id, recovered)?;
                    self.read_head(id)?
                }
                other => other?,
            };
            let header = match format::decode_segment_header(&bytes, id) {
                HeaderRead::Valid(header) => Some(header),
                HeaderRead::Invalid => None,
                HeaderRead::Version(version) => {
                    return Err(Error::Version { path, version, supported: FORMAT_VERSION });
                }
            };
            headers.insert(id, header);
        }
        Ok(headers)
    }

    fn read_head(&self, id: SegmentId) -> Result<Vec<u8>, Error> {
        let path = self.path(id);
        let file = self.fs.open(&path).map_err(Error::io("open", &path))?;
        head(&file).map_err(Error::io("read", &path))
    }

    fn recover_segment(
        &mut self,
        id: SegmentId,
        headers: &BTreeMap<SegmentId, Option<SegmentHeader>>,
        recovered: &mut Recovered,
    ) -> Result<(), Error> {
        let path = self.path(id);
        let file = self.fs.open(&path).map_err(Error::io("open", &path))?;
        let file_len = file.len().map_err(Error::io("measure", &path))?;
        let header = headers.get(&id).copied().flatten();
        let told_end =
            headers.values().flatten().find(|next| next.previous_id == id).map(|next| next.previous_end);
        let scan_end = told_end.map_or(file_len, |end| end.min(file_len));
        let mut found =
            scan(&file, id, scan_end, self.options.record_bytes_max).map_err(Error::io("read", &path))?;

        let is_last = self.segments.is_empty();
        let is_open = told_end.is_none() && found.sealed.is_none();
        let unreadable: Vec<Range<u64>> = recovered
            .unreadable
            .iter()
            .filter(|bytes| bytes.segment == id)
            .map(|bytes| bytes.range.clone())
            .collect();
        let torn = match torn_tail(&found, &unreadable) {
            Some(at) if is_open && is_last => Some(at),
            // A segment that lost both its footer and its successor: the reserved space behind it is not damage.
            Some(at) if is_open => {
                is_zero(&file, at, file_len).map_err(Error::io("read", &path))?.then_some(at)
            }
            _ => None,
        };
        let group_end = header.map_or(0, |header| header.group_end);
        let is_torn_creation = header.is_none() && found.durable_through == 0 && unreadable.is_empty();
        let is_void = is_open && is_last && (is_torn_creation || torn.unwrap_or(found.end) < group_end);
        let is_empty = found.records == 0;
        if is_void || (is_empty && header.is_none()) {
            return self.set_aside(id, &file, file_len, is_empty, recovered);
        }

        if let Some(at) = torn {
            found.damaged.retain(|range| range.start < at);
            if let Some(last) = found.damaged.last_mut() {
                last.end = last.end.min(at);
            }
            found.end = at;
            if is_last {
                let cut = at..file_len;
                let is_reserved_space = is_zero(&file, at, file_len).map_err(Error::io("read", &path))?;
                if !is_reserved_space {
                    recovered.truncated = Some(Quarantined { segment: id, range: cut });
                }
            }
        }
        // Corruption that cut the file short.
        if let Some(end) = told_end.filter(|&end| end > file_len) {
            found.damaged.push(file_len.max(SEGMENT_HEADER_BYTES)..end);
            found.end = end;
        }
        let mut file_bytes = file_len;
        if is_open && is_last {
            file_bytes = self.close_recovered(id, &file, &found, file_len)?;
        }
        if header.is_none() {
            found.damaged.insert(0, 0..SEGMENT_HEADER_BYTES);
        }
        let quarantined = found.damaged.iter().cloned().map(|range| Quarantined { segment: id, range });
        recovered.quarantined.extend(quarantined);
        self.segments.insert(
            id,
            Segment {
                id,
                tag: header.map(|header| header.tag),
                end: found.end,
                file_bytes,
                records: found.records,
                damaged: found.damaged,
            },
        );
        Ok(())
    }

    /// Cuts the torn tail off, writes the missing footer and makes what was found durable.
    fn close_recovered(
        &self,
        id: SegmentId,
        file: &F::File,
        found: &Scan,
        file_len: u64,
    ) -> Result<u64, Error> {
        let path = self.path(id);
        let mut end = file_len;
        if found.end < file_len {
            file.set_len(found.end).map_err(Error::io("truncate", &path))?;
            end = found.end;
        }
        // After a failed sync the kernel may show pages that will never reach the disk and calls them clean. Writing
        // what no record proves to be durable once more makes the sync below mean what it says.
        self.rewrite(file, found.durable_through, found.end).map_err(Error::io("rewrite", &path))?;
        file.sync_data().map_err(Error::io("sync", &path))?;
        let footer = RecordHeader {
            kind: KIND_FOOTER,
            sequence: found.records,
            sequence_end: found.end,
            ..RecordHeader::default()
        };
        let mut image = Vec::new();
        format::encode_record(&mut image, id, found.end, found.end, &footer, &[]);
        // On a full disk the segment stays without a footer until its successor tells where it ends.
        if write_all(file, &image, found.end).is_ok() {
            end = found.end + RECORD_HEADER_BYTES;
        }
        file.sync_data().map_err(Error::io("sync", &path))?;
        Ok(end)
    }

    fn rewrite(&self, file: &F::File, mut from: u64, end: u64) -> io::Result<()> {
        let mut buffer = vec![0; 64 * 1024];
        while from < end {
            let want = (end - from).min(buffer.len() as u64) as usize;
            let count = read_full(file, &mut buffer[..want], from)?;
            if count == 0 {
                break;
            }
            write_all(file, &buffer[..count], from)?;
            from += count as u64;
        }
        Ok(())
    }

    /// Takes a file without usable contents out of the way: an unfinished creation is removed, the rest is kept
    /// under another name.
    fn set_aside(
        &mut self,
        id: SegmentId,
        file: &F::File,
        file_len: u64,
        is_empty: bool,
        recovered: &mut Recovered,
    ) -> Result<(), Error> {
        let path = self.path(id);
        if is_empty && is_zero(file, 0, file_len).map_err(Error::io("read", &path))? {
            self.discard(id);
            return Ok(());
        }
        if recovered.unreadable.iter().any(|bytes| bytes.segment == id) {
            // A copy: what it was made of is kept already.
            self.discard(id);
            return Ok(());
        }
        let aside = self.quarantine_path(id);
        self.fs.rename(&path, &aside).map_err(Error::io("quarantine", &path))?;
        self.fs.sync_dir(&self.dir).map_err(Error::io("sync directory", &self.dir))?;
        recovered.quarantined_files.push(aside);
        Ok(())
    }

    pub(super) fn quarantine_path(&self, id: SegmentId) -> std::path::PathBuf {
        self.dir.join(file_name(id)).with_extension("quarantine")
    }
}

/// The first damaged range that no later record proves to have been durable, or what is left of it behind bytes that
/// could not be read: those may have been durable.
fn torn_tail(found: &Scan, unreadable: &[Range<u64>]) -> Option<u64> {
    let tails = found.damaged.iter().filter(|range| range.start >= found.durable_through);
    tails
        .filter_map(|range| {
            let within = unreadable.iter().filter(|bytes| bytes.start < range.end && range.start < bytes.end);
            match within.map(|bytes| bytes.end).max() {
                None => Some(range.start),
                Some(end) if range.end == found.end => {
                    Some(end.next_multiple_of(8)).filter(|at| *at < range.end)
                }
                Some(_) => None,
            }
        })
        .next()
}
