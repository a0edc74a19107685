import Foundation
import Testing

@testable import Member

@Suite struct FlagReferenceTests {
  /// `APUS_REWRITE_DOCS=1` writes the page instead of comparing it.
  @Test func docsListTheFlagsOfTheProgram() throws {
    let page = URL(filePath: #filePath).deletingLastPathComponent()
      .appending(path: "../../../docs/flags.md").standardizedFileURL
    if ProcessInfo.processInfo.environment["APUS_REWRITE_DOCS"] != nil {
      try Data(FlagReference.markdown.utf8).write(to: page)
    }
    let text = try String(contentsOf: page, encoding: .utf8)
    #expect(text == FlagReference.markdown, "rewrite docs/flags.md with APUS_REWRITE_DOCS=1")
  }

  /// The names and defaults that etcd 3.7.1 prints.
  @Test func noFlagIsMissing() {
    #expect(FlagTable.all.count == 113)
    #expect(Set(FlagTable.all.map(\.name)).count == FlagTable.all.count)
  }
}
