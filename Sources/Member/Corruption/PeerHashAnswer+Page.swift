import Base
import FoundationEssentials
import StoreActor

extension PeerHashAnswer {
  /// The page `/members/hashkv` as etcd writes it. Zeros may be left out.
  private struct Page: Decodable {
    struct Header: Decodable { var revision: Int64? }

    var header: Header?
    var hash: UInt32?
    var compactRevision: Int64?
    var hashRevision: Int64?

    enum CodingKeys: String, CodingKey {
      case header, hash
      case compactRevision = "compact_revision"
      case hashRevision = "hash_revision"
    }
  }

  init(status: Int, body: Bytes) {
    guard status == 200 else {
      let text = String(decoding: body, as: UTF8.self)
      if text.contains("future revision") {
        self = .behind
      } else if text.contains("has been compacted") {
        self = .compacted
      } else {
        self = .unreachable("status \(status): \(text)")
      }
      return
    }
    guard let page = try? JSONDecoder().decode(Page.self, from: Data(body)) else {
      self = .unreachable("unreadable answer")
      return
    }
    let current = page.header?.revision ?? 0
    self = .hash(
      MemberHash(
        hash: KeyValueHash(
          hash: page.hash ?? 0, revision: page.hashRevision ?? 0,
          compactRevision: page.compactRevision ?? 0),
        current: current))
  }

  init(_ result: Result<PeerResponse, PeerError>) {
    switch result {
    case .success(let response): self.init(status: response.status, body: response.body)
    case .failure(let error): self = .unreachable("\(error)")
    }
  }
}
