import CIntrinsics
import Glibc

/// Gives back the pages of the program and its libraries that only its start needed.
///
/// The kernel maps a file's pages in blocks around each one that is touched, and a start touches
/// nearly every block once: option tables, recovery, the registration of types, the set-up of TLS.
/// They stay in the page cache, shared by all members of a machine; what is needed again is mapped
/// again, a microsecond for sixteen pages.
enum ProgramPages {
  /// After its start a member is given this long to settle: a leader has asked for all versions by then,
  /// which takes apart answers that it only compares from then on.
  static let settlingMilliseconds = 10_000

  static func release() {
    _ = apus_loaded_objects(
      { object, _, _ in
        guard let object = object?.pointee, let headers = object.headers else { return 0 }
        for index in 0..<Int(object.count) {
          ProgramPages.release(headers[index], base: object.base)
        }
        return 0
      }, nil)
  }

  /// Only what nobody can have written to: such pages come back from the file as they were.
  private static func release(_ header: Elf64_Phdr, base: UInt) {
    guard header.p_type == UInt32(PT_LOAD), header.p_flags & UInt32(PF_W) == 0 else { return }
    let page = UInt(sysconf(Int32(_SC_PAGESIZE)))
    let start = (base + UInt(header.p_vaddr)) & ~(page - 1)
    let end = (base + UInt(header.p_vaddr + header.p_memsz)) & ~(page - 1)
    guard end > start else { return }
    madvise(UnsafeMutableRawPointer(bitPattern: start), Int(end - start), MADV_DONTNEED)
  }
}
