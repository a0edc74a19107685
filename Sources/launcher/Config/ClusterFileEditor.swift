// Adding a member to a cluster.conf, and taking one out, without touching anything else in it.

internal import YAML

/// Changes the text of a cluster.conf whose members stand one below the other. What comes out is parsed
/// again by the caller before it counts.
enum ClusterFileEditor {
  /// The text with a member behind the others.
  ///
  /// - Throws: ``ControlError`` with what to write by hand, if the list is not of that form.
  static func adding(
    _ name: String, clientURL: String, peerURL: String, to text: String
  ) throws(ControlError) -> String {
    let fields = ["- name: \(name)", "  client-url: \(clientURL)", "  peer-url: \(peerURL)"]
    guard let list = MemberLines(text), let last = list.members.last else {
      throw ControlError(
        "the members of the file do not stand one below the other; add there by hand: "
          + "{name: \(name), client-url: \"\(clientURL)\", peer-url: \"\(peerURL)\"}, "
          + "and give the command again")
    }
    var lines = list.lines
    lines.insert(contentsOf: fields.map { list.indentation + $0 }, at: last.lines.upperBound)
    return lines.joined(separator: "\n")
  }

  /// The text without a member.
  ///
  /// - Throws: ``ControlError`` if the list is not of that form.
  static func removing(_ name: String, from text: String) throws(ControlError) -> String {
    guard let list = MemberLines(text), let member = list.members.first(where: { $0.name == name })
    else { throw ControlError("take the member \(name) out of the file by hand") }
    var lines = list.lines
    lines.removeSubrange(member.lines)
    return lines.joined(separator: "\n")
  }

  /// Where each member stands.
  private struct MemberLines {
    let lines: [String]
    let indentation: String
    var members: [(name: String, lines: Range<Int>)] = []

    init?(_ text: String) {
      lines = text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
      guard let list = try? YAMLDocument.root(of: text)?["members"]?.sequence
      else { return nil }
      let starts = list.map { $0.line - 1 }
      guard let first = starts.first, lines.indices.contains(first) else { return nil }
      indentation = String(lines[first].prefix { $0 == " " })
      let marker = indentation + "- "
      guard starts.allSatisfy({ lines.indices.contains($0) && lines[$0].hasPrefix(marker) })
      else { return nil }
      for (position, element) in list.enumerated() {
        guard let name = element["name"]?.text else { return nil }
        let limit = position + 1 < starts.count ? starts[position + 1] : lines.count
        members.append((name, starts[position]..<end(from: starts[position], limit: limit)))
      }
    }

    /// The member's lines are those that are indented further than its dash; remarks between members
    /// belong to what follows.
    private func end(from start: Int, limit: Int) -> Int {
      var end = start + 1
      while end < limit, lines[end].hasPrefix(indentation + " "),
        !lines[end].drop(while: { $0 == " " }).isEmpty
      {
        end += 1
      }
      return end
    }
  }
}
