import StoreActor
import Testing

@testable import Member

@Suite struct VersionTests {
  @Test func theClusterVersionOnlyRises() {
    #expect(Version(3, 6).isDue(after: Version(3, 5), downgrade: nil))
    #expect(!Version(3, 5).isDue(after: Version(3, 5), downgrade: nil))
    #expect(!Version(3, 4).isDue(after: Version(3, 5), downgrade: nil))
    let ended = DowngradeInfo(isEnabled: false, targetVersion: "")
    #expect(Version(3, 6).isDue(after: Version(3, 5), downgrade: ended))
  }

  @Test func aDowngradeLowersItByOneToItsTargetAndNothingRaisesIt() {
    let job = DowngradeInfo(isEnabled: true, targetVersion: "3.4.0")
    #expect(Version(3, 4).isDue(after: Version(3, 5), downgrade: job))
    #expect(!Version(3, 6).isDue(after: Version(3, 5), downgrade: job))
    #expect(!Version(3, 5).isDue(after: Version(3, 4), downgrade: job))
    #expect(!Version(3, 4).isDue(after: Version(3, 6), downgrade: job))
    #expect(!Version(3, 4).isDue(after: Version(3, 4), downgrade: job))
  }

  @Test func aTargetHasToBeOneMinorBelow() {
    #expect(DowngradeTarget("3.4")?.isOneMinorBelow(Version(3, 5)) == true)
    #expect(DowngradeTarget("3.3.9")?.isOneMinorBelow(Version(3, 5)) == false)
    #expect(DowngradeTarget("2.4")?.isOneMinorBelow(Version(3, 5)) == false)
    #expect(DowngradeTarget("3.18446744073709551615")?.isOneMinorBelow(Version(3, 5)) == false)
  }
}
