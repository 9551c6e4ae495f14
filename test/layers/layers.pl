#!/usr/bin/perl
#
# layers.pl SRC - does every file include only what its layer may know?
#
# One check a folder of src. The table in doc/architecture.md says the same in words.
#
use strict;
use warnings;

my $src = shift or die "usage: layers.pl SRC\n";

# What a folder may include of others; a name with a slash is that one header.
my %may_know = (
	raft => [],
	storage => [],
	clock => [],
	transport => ['raft', 'storage/crc32c.h'],
	node => [
		'raft', 'storage', 'transport', 'clock',
		# the leader's part of the lock service runs in the Raft worker
		'lock/lock_payload.h', 'lock/lock_internal.h'
	],
	replication => ['raft', 'storage', 'clock', 'node'],
	lock => ['raft', 'node', 'replication'],
	consistency => ['raft', 'storage', 'clock', 'node', 'replication'],
);

# These run in the simulator, too.
my %plain_c = map { $_ => 1 } qw(raft storage);

my ($passed, $failed) = (0, 0);

foreach my $dir (glob "$src/*/")
{
	my ($folder) = $dir =~ m{([^/]+)/$};
	my @wrong;

	push @wrong, "nothing says what src/$folder may know" unless $may_know{$folder};
	foreach my $file (glob "$dir*.[ch]")
	{
		open my $in, '<', $file or die "$file: $!\n";
		while (my $line = <$in>)
		{
			next unless $line =~ /^\s*#\s*include\s+["<]([^">]+)[">]/;
			my $name = $1;
			my ($other) = $name =~ m{^([^/]+)/};

			push @wrong, "$file:$.: $name"
			  if $plain_c{$folder} && $name =~ m{^(postgres|uv|c)\.h$|^(uv|time)\.h$|^sys/time};
			# PostgreSQL has a storage/ and a replication/ of its own
			next unless defined $other && -e "$src/$name" && $other ne $folder;
			push @wrong, "$file:$.: $name"
			  unless grep { $_ eq $other || $_ eq $name } @{ $may_know{$folder} // [] };
		}
		close $in;
	}
	if (@wrong)
	{
		print "src/$folder includes what its layer may not know:\n", map { "  $_\n" } @wrong;
		$failed++;
	}
	else
	{
		$passed++;
	}
}

print "layers: $passed passed, $failed failed\n";
exit($failed ? 1 : 0);
