//! A file system in memory that loses, tears and refuses on request.
//!
//! Every write stays *pending* until its file is synced, and every directory change until its directory is. A
//! [`FaultFs::crash`] keeps an arbitrary part of what is pending: writes torn at 512-byte sectors, in any
//! combination; new names may vanish and removed names come back. All clones share one disk; [`FaultFs::fork`]
//! copies it. Handles and locks from before a crash are dead.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::seam::{File, Fs};

const SECTOR_BYTES: u64 = 512;

/// What an operation does instead of working.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The operation fails with EIO. A failing write may have written a part; a failing sync leaves its pages
    /// clean and lost, as Linux does, so that the next sync of the file succeeds without them.
    Eio,
    /// As `Eio`, with "no space left on device".
    Enospc,
    /// A write writes half, with success. Other operations work.
    ShortWrite,
}

/// Damage to bytes that were durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    Flip {
        offset: u64,
        mask: u8,
    },
    Zero {
        offset: u64,
        len: u64,
    },
    Truncate {
        len: u64,
    },
    Delete,
    /// Reads that touch these bytes fail with EIO, until the file is gone.
    Unreadable {
        offset: u64,
        len: u64,
    },
}

/// A disk that misbehaves on request. See the module documentation.
#[derive(Debug, Clone)]
pub struct FaultFs(Arc<Mutex<Disk>>);

/// An open file of [`FaultFs`].
#[derive(Debug)]
pub struct FaultFile {
    disk: Arc<Mutex<Disk>>,
    inode: u64,
    life: u64,
}

/// A held lock of [`FaultFs`].
#[derive(Debug)]
pub struct FaultLock {
    disk: Arc<Mutex<Disk>>,
    path: PathBuf,
    life: u64,
}

#[derive(Debug, Clone, Default)]
struct Disk {
    inodes: BTreeMap<u64, Inode>,
    inode_next: u64,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    pending_names: Vec<NameChange>,
    locks: BTreeSet<PathBuf>,
    /// Counts crashes: handles of an earlier life are dead.
    life: u64,
    operations: u64,
    scripted: BTreeMap<u64, Fault>,
    random: Option<(u32, Fault)>,
    capacity: Option<u64>,
    rng: u64,
}

#[derive(Debug, Clone, Default)]
struct Inode {
    /// What a reader sees.
    cached: Vec<u8>,
    /// What a crash leaves for certain.
    durable: Vec<u8>,
    pending: Vec<Change>,
    unreadable: Vec<std::ops::Range<u64>>,
}

#[derive(Debug, Clone)]
enum Change {
    Write { offset: u64, bytes: Vec<u8> },
    Length(u64),
}

#[derive(Debug, Clone)]
enum NameChange {
    Add(PathBuf, u64),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf, u64),
}

impl FaultFs {
    /// An empty disk. `seed` decides the random faults.
    pub fn new(seed: u64) -> Self {
        FaultFs(Arc::new(Mutex::new(Disk { rng: seed, ..Disk::default() })))
    }

    /// A copy of the disk, with its own future.
    pub fn fork(&self) -> FaultFs {
        FaultFs(Arc::new(Mutex::new(self.disk().clone())))
    }

    /// Operations performed so far; the next one has this number.
    pub fn operations(&self) -> u64 {
        self.disk().operations
    }

    /// Makes operation number `operation` fail.
    pub fn fail_at(&self, operation: u64, fault: Fault) {
        self.disk().scripted.insert(operation, fault);
    }

    /// Makes each operation fail with probability `per_mille` / 1000.
    pub fn fail_randomly(&self, per_mille: u32, fault: Fault) {
        self.disk().random = Some((per_mille, fault));
    }

    pub fn clear_faults(&self) {
        let mut disk = self.disk();
        disk.scripted.clear();
        disk.random = None;
    }

    /// Bounds the total size of all files; growing beyond it fails with "no space left on device".
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.disk().capacity = bytes;
    }

    /// Total size of all files as a reader sees them.
    pub fn bytes(&self) -> u64 {
        self.disk().used()
    }

    /// Cuts the power. What was pending survives sector by sector as `seed` decides.
    pub fn crash(&self, seed: u64) {
        let mut rng = seed;
        // One crash in four keeps everything or nothing, the others toss a biased coin for each sector.
        let bias = match random(&mut rng) % 8 {
            0 => 0,
            1 => 256,
            _ => random(&mut rng) % 256,
        };
        self.crash_with(&mut |_| random(&mut rng) % 256 < bias);
    }

    /// Cuts the power. `keep` decides for the n-th pending piece: name changes first, then sectors of writes.
    pub fn crash_with(&self, keep: &mut dyn FnMut(usize) -> bool) {
        self.disk().crash(keep);
    }

    /// How many pieces [`FaultFs::crash_with`] would ask about.
    pub fn pending_pieces(&self) -> usize {
        let mut pieces = 0;
        self.disk().clone().crash(&mut |_| {
            pieces += 1;
            true
        });
        pieces
    }

    /// Ends the process without cutting the power: everything written stays, handles and locks are gone.
    pub fn kill(&self) {
        let mut disk = self.disk();
        disk.life += 1;
        disk.locks.clear();
    }

    /// Files as a reader sees them, sorted by path.
    pub fn files(&self) -> Vec<PathBuf> {
        self.disk().names.keys().cloned().collect()
    }

    /// Contents of a file as a reader sees them.
    pub fn contents(&self, path: &Path) -> Option<Vec<u8>> {
        let disk = self.disk();
        disk.inodes.get(disk.names.get(path)?).map(|inode| inode.cached.clone())
    }

    /// Puts a file on the disk, durably.
    pub fn put(&self, path: &Path, contents: &[u8]) {
        let mut disk = self.disk();
        let inode = disk.inode_next;
        disk.inode_next += 1;
        let (cached, durable) = (contents.to_vec(), contents.to_vec());
        disk.inodes.insert(inode, Inode { cached, durable, ..Inode::default() });
        disk.names.insert(path.to_path_buf(), inode);
        disk.durable_names.insert(path.to_path_buf(), inode);
    }

    /// Damages a file, durably. Returns false if there is nothing to damage.
    pub fn damage(&self, path: &Path, damage: Damage) -> bool {
        let mut disk = self.disk();
        let Some(&id) = disk.names.get(path) else { return false };
        if damage == Damage::Delete {
            disk.names.remove(path);
            disk.durable_names.remove(path);
            return true;
        }
        let Some(inode) = disk.inodes.get_mut(&id) else { return false };
        if let Damage::Unreadable { offset, len } = damage {
            inode.unreadable.push(offset..offset.saturating_add(len));
            return true;
        }
        let before = inode.cached.clone();
        for bytes in [&mut inode.cached, &mut inode.durable] {
            match damage {
                Damage::Flip { offset, mask } => {
                    if let Some(byte) = bytes.get_mut(offset as usize) {
                        *byte ^= mask;
                    }
                }
                Damage::Zero { offset, len } => {
                    let from = (offset as usize).min(bytes.len());
                    let to = from.saturating_add(len as usize).min(bytes.len());
                    bytes[from..to].fill(0);
                }
                Damage::Truncate { len } => bytes.truncate(len as usize),
                Damage::Delete | Damage::Unreadable { .. } => {}
            }
        }
        inode.cached != before
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().expect("no code panics while it holds the disk")
    }
}

impl Disk {
    fn used(&self) -> u64 {
        self.names.values().filter_map(|id| self.inodes.get(id)).map(|inode| inode.cached.len() as u64).sum()
    }

    /// Counts an operation and says how it goes wrong.
    fn operate(&mut self) -> Option<Fault> {
        let number = self.operations;
        self.operations += 1;
        let scripted = self.scripted.get(&number).copied();
        let random =
            self.random.filter(|(per_mille, _)| random(&mut self.rng) % 1000 < u64::from(*per_mille));
        scripted.or(random.map(|(_, fault)| fault))
    }

    fn operate_or_fail(&mut self) -> io::Result<()> {
        self.operate().and_then(Fault::error).map_or(Ok(()), Err)
    }

    fn crash(&mut self, keep: &mut dyn FnMut(usize) -> bool) {
        let mut piece = 0;
        let mut keep = || {
            piece += 1;
            keep(piece - 1)
        };
        for change in std::mem::take(&mut self.pending_names) {
            if keep() {
                change.apply(&mut self.durable_names);
            }
        }
        self.names = self.durable_names.clone();
        let live: BTreeSet<u64> = self.names.values().copied().collect();
        self.inodes.retain(|id, _| live.contains(id));
        for inode in self.inodes.values_mut() {
            for change in std::mem::take(&mut inode.pending) {
                change.apply_torn(&mut inode.durable, &mut keep);
            }
            inode.cached = inode.durable.clone();
        }
        self.locks.clear();
        self.scripted.clear();
        self.random = None;
        self.life += 1;
    }

    fn change(&mut self, id: u64, change: Change) -> io::Result<()> {
        let used = self.used();
        let inode = self.inodes.get_mut(&id).ok_or(io::ErrorKind::NotFound)?;
        let before = inode.cached.len() as u64;
        let after = match &change {
            Change::Write { offset, bytes } => before.max(offset + bytes.len() as u64),
            Change::Length(len) => *len,
        };
        if self.capacity.is_some_and(|capacity| after > before && used + (after - before) > capacity) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        change.apply(&mut inode.cached);
        inode.pending.push(change);
        Ok(())
    }
}

impl Fault {
    fn error(self) -> Option<io::Error> {
        match self {
            Fault::Eio => Some(io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error())),
            Fault::Enospc => Some(io::ErrorKind::StorageFull.into()),
            Fault::ShortWrite => None,
        }
    }
}

impl Change {
    fn apply(&self, target: &mut Vec<u8>) {
        match self {
            Change::Write { offset, bytes } => {
                let (from, to) = (*offset as usize, *offset as usize + bytes.len());
                target.resize(target.len().max(to), 0);
                target[from..to].copy_from_slice(bytes);
            }
            Change::Length(len) => target.resize(*len as usize, 0),
        }
    }

    /// Applies the sectors that `keep` chooses. A longer file may show zeros where a sector was lost.
    fn apply_torn(&self, target: &mut Vec<u8>, keep: &mut dyn FnMut() -> bool) {
        let Change::Write { offset, bytes } = self else {
            if keep() {
                self.apply(target);
            }
            return;
        };
        let (mut at, end) = (*offset, offset + bytes.len() as u64);
        while at < end {
            let stop = end.min((at / SECTOR_BYTES + 1) * SECTOR_BYTES);
            if keep() {
                let sector = bytes[(at - offset) as usize..(stop - offset) as usize].to_vec();
                Change::Write { offset: at, bytes: sector }.apply(target);
            }
            at = stop;
        }
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<PathBuf, u64>) {
        match self {
            NameChange::Add(path, inode) => {
                names.insert(path.clone(), *inode);
            }
            NameChange::Remove(path) => {
                names.remove(path);
            }
            NameChange::Rename(from, to, inode) => {
                names.remove(from);
                names.insert(to.clone(), *inode);
            }
        }
    }

    fn dir(&self) -> Option<&Path> {
        match self {
            NameChange::Add(path, _) | NameChange::Remove(path) | NameChange::Rename(path, _, _) => {
                path.parent()
            }
        }
    }
}

impl Fs for FaultFs {
    type File = FaultFile;
    type Lock = FaultLock;

    fn create_dir(&self, _dir: &Path) -> io::Result<()> {
        self.disk().operate_or_fail()
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut disk = self.disk();
        disk.operate_or_fail()?;
        let inside = disk.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(inside.filter_map(|path| path.file_name()?.to_str().map(str::to_owned)).collect())
    }

    fn create_new(&self, path: &Path) -> io::Result<FaultFile> {
        let mut disk = self.disk();
        disk.operate_or_fail()?;
        if disk.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = disk.inode_next;
        disk.inode_next += 1;
        disk.inodes.insert(inode, Inode::default());
        disk.names.insert(path.to_path_buf(), inode);
        disk.pending_names.push(NameChange::Add(path.to_path_buf(), inode));
        Ok(FaultFile { disk: self.0.clone(), inode, life: disk.life })
    }

    fn open(&self, path: &Path) -> io::Result<FaultFile> {
        let mut disk = self.disk();
        disk.operate_or_fail()?;
        let inode = *disk.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(FaultFile { disk: self.0.clone(), inode, life: disk.life })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.operate_or_fail()?;
        let inode = *disk.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        let change = NameChange::Rename(from.to_path_buf(), to.to_path_buf(), inode);
        change.apply(&mut disk.names);
        disk.pending_names.push(change);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.operate_or_fail()?;
        disk.names.remove(path).ok_or(io::ErrorKind::NotFound)?;
        disk.pending_names.push(NameChange::Remove(path.to_path_buf()));
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.operate_or_fail()?;
        let (synced, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut disk.pending_names).into_iter().partition(|change| change.dir() == Some(dir));
        disk.pending_names = rest;
        for change in synced {
            change.apply(&mut disk.durable_names);
        }
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<FaultLock> {
        let mut disk = self.disk();
        disk.operate_or_fail()?;
        if !disk.locks.insert(path.to_path_buf()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(FaultLock { disk: self.0.clone(), path: path.to_path_buf(), life: disk.life })
    }
}

impl Drop for FaultLock {
    fn drop(&mut self) {
        let mut disk = self.disk.lock().expect("no code panics while it holds the disk");
        if disk.life == self.life {
            disk.locks.remove(&self.path);
        }
    }
}

impl FaultFile {
    fn operate(&self) -> io::Result<(MutexGuard<'_, Disk>, Option<Fault>)> {
        let mut disk = self.disk.lock().expect("no code panics while it holds the disk");
        if disk.life != self.life {
            return Err(io::Error::other("the handle is from before the crash"));
        }
        let fault = disk.operate();
        Ok((disk, fault))
    }
}

impl File for FaultFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let (disk, fault) = self.operate()?;
        if let Some(error) = fault.and_then(Fault::error) {
            return Err(error);
        }
        let inode = disk.inodes.get(&self.inode).ok_or(io::ErrorKind::NotFound)?;
        let end = offset.saturating_add(buffer.len() as u64);
        if inode.unreadable.iter().any(|bytes| bytes.start < end && offset < bytes.end) {
            return Err(Fault::Eio.error().unwrap_or(io::ErrorKind::Other.into()));
        }
        let rest = inode.cached.get(offset as usize..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let (mut disk, fault) = self.operate()?;
        let part = if fault.is_some() { &bytes[..bytes.len().div_ceil(2)] } else { bytes };
        let outcome = disk.change(self.inode, Change::Write { offset, bytes: part.to_vec() });
        match fault.and_then(Fault::error) {
            Some(error) => Err(error),
            None => outcome.map(|()| part.len()),
        }
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let (mut disk, fault) = self.operate()?;
        if let Some(error) = fault.and_then(Fault::error) {
            return Err(error);
        }
        let inode = disk.inodes.get(&self.inode).ok_or(io::ErrorKind::NotFound)?;
        if inode.cached.len() as u64 >= len { Ok(()) } else { disk.change(self.inode, Change::Length(len)) }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let (mut disk, fault) = self.operate()?;
        match fault.and_then(Fault::error) {
            Some(error) => Err(error),
            None => disk.change(self.inode, Change::Length(len)),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        let (mut disk, fault) = self.operate()?;
        let mut coin = disk.rng;
        let inode = disk.inodes.get_mut(&self.inode).ok_or(io::ErrorKind::NotFound)?;
        let pending = std::mem::take(&mut inode.pending);
        let Some(error) = fault.and_then(Fault::error) else {
            pending.iter().for_each(|change| change.apply(&mut inode.durable));
            return Ok(());
        };
        // Some of it may have reached the disk; none of it will be tried again.
        for change in pending {
            change.apply_torn(&mut inode.durable, &mut || random(&mut coin).is_multiple_of(2));
        }
        disk.rng = coin;
        Err(error)
    }

    fn len(&self) -> io::Result<u64> {
        let (disk, fault) = self.operate()?;
        match fault.and_then(Fault::error) {
            Some(error) => Err(error),
            None => Ok(disk.inodes.get(&self.inode).ok_or(io::ErrorKind::NotFound)?.cached.len() as u64),
        }
    }
}

/// SplitMix64: small, and the same everywhere.
pub fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
