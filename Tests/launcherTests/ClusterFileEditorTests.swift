import Testing

@testable import launcher

private let file = """
  # A cluster.
  data-dir: d
  members:
    - name: m1
      client-url: http://127.0.0.1:2379   # the first
      peer-url: http://127.0.0.1:2380

    # The second.
    - name: m2
      client-url: http://127.0.0.1:22379
      peer-url: http://127.0.0.1:22380
      log-level: debug

  defaults:
    log-level: info

  """

@Test func aMemberIsAddedBehindTheOthers() throws {
  let text = try ClusterFileEditor.adding(
    "m3", clientURL: "http://127.0.0.1:3", peerURL: "http://127.0.0.1:4", to: file)
  let added = [
    "    - name: m3", "      client-url: http://127.0.0.1:3", "      peer-url: http://127.0.0.1:4",
  ].map { String($0.dropFirst(2)) }
  var expected = file.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
  expected.insert(contentsOf: added, at: 12)
  #expect(text == expected.joined(separator: "\n"))
  let parsed = ClusterFileParser.parse(text, path: "c.conf").file
  #expect(parsed?.members.map(\.name) == ["m1", "m2", "m3"])
}

@Test func aMemberIsTakenOutAlone() throws {
  let text = try ClusterFileEditor.removing("m1", from: file)
  #expect(!text.contains("m1") && text.contains("# The second.") && text.contains("# A cluster."))
  #expect(ClusterFileParser.parse(text, path: "c.conf").file?.members.map(\.name) == ["m2"])
  let added = try ClusterFileEditor.adding(
    "m3", clientURL: "http://127.0.0.1:3", peerURL: "http://127.0.0.1:4", to: file)
  #expect(try ClusterFileEditor.removing("m3", from: added) == file)
}

@Test func otherFormsAreLeftToTheUser() {
  let flow = "data-dir: d\nmembers: [{name: m1, client-url: \"a\", peer-url: \"b\"}]\n"
  #expect(throws: ControlError.self) {
    try ClusterFileEditor.adding("m2", clientURL: "c", peerURL: "d", to: flow)
  }
  #expect(throws: ControlError.self) { try ClusterFileEditor.removing("m1", from: flow) }
}

@Test func thePortsGoOn() throws {
  let parsed = try #require(ClusterFileParser.parse(file, path: "c.conf").file)
  let free = FreeAddresses(beside: parsed)
  #expect(free.client.text == "http://127.0.0.1:32379")
  #expect(free.peer.text == "http://127.0.0.1:32380")
}
