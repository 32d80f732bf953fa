using System;
using System.Collections.Generic;
using System.Data.Common;
using System.Linq;
using System.Threading;
using Confluent.Kafka;
using CyberMesh.Node.Configuration;
using CyberMesh.Node.Ingest;
using CyberMesh.Node.Projection;

namespace CyberMesh.Cli.Doctor;

/// <summary>Kafka with each of its topics, and the database.</summary>
internal static class ServiceChecks
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(3);

    public static IEnumerable<Finding> Kafka(Patient patient)
    {
        if (patient.Settings is not { IsObserver: false } settings || settings.Kafka.Brokers.Length == 0) yield break;
        var config = new AdminClientConfig { BootstrapServers = settings.Kafka.Brokers, ClientId = "cybermesh-doctor", SocketConnectionSetupTimeoutMs = (int)Patience.TotalMilliseconds };
        settings.Kafka.Security.ApplyTo(config);
        Error? refused = null;
        using var admin = new AdminClientBuilder(config).SetErrorHandler((_, error) => refused = KafkaClients.IsRefusal(error.Code) || refused is null ? error : refused).SetLogHandler((_, _) => { }).Build();
        Metadata? metadata = null;
        KafkaException? failed = null;
        try
        {
            metadata = admin.GetMetadata(Patience);
        }
        catch (KafkaException problem)
        {
            failed = problem;
        }

        if (metadata is null)
        {
            Thread.Sleep(200); // the reason comes on another thread
            var error = Volatile.Read(ref refused) ?? failed!.Error;
            yield return Finding.Error("kafka", $"{settings.Kafka.Brokers} does not serve us: {error.Reason}", FixOf(error) + (settings.Kafka.Security.UsesTls && error.Code != ErrorCode.Local_Ssl ? "; check KAFKA_TLS_ENABLED: do the brokers speak TLS at this port?" : ""));
            yield break;
        }

        yield return Finding.Ok("kafka", $"{metadata.Brokers.Count} broker(s): {string.Join(", ", metadata.Brokers.Select(b => $"{b.Host}:{b.Port}"))}");
        foreach (var (topic, use) in Topics(settings))
        {
            var found = metadata.Topics.FirstOrDefault(t => t.Topic == topic);
            if (found is null || found.Error.Code is ErrorCode.UnknownTopicOrPart)
                yield return Finding.Warning("kafka", $"topic {topic} ({use}) is not there, or hidden from this user", $"create it: kafka-topics.sh --create --topic {topic} --partitions 6 --replication-factor 3; or give this user the right to see it");
            else if (found.Error.IsError) yield return Finding.Error("kafka", $"topic {topic} ({use}): {found.Error.Reason}", FixOf(found.Error));
            else yield return Finding.Ok("kafka", $"topic {topic} ({use}) has {found.Partitions.Count} partition(s)");
        }
    }

    private static IEnumerable<(string Topic, string Use)> Topics(Settings settings) =>
    [
        (settings.AnomalyTopic, "read"), (settings.EvidenceTopic, "read"), (settings.PolicyTopic, "read"), (settings.OrdersTopic, "read"), (settings.DecisionsTopic, "read"),
        (settings.CommitsTopic, "written"), (settings.ControlPolicyTopic, "written"), (settings.ReputationTopic, "written"), (settings.DeadLetterTopic, "written"),
    ];

    private static string FixOf(Error error) => error.Code switch
    {
        ErrorCode.Local_Authentication or ErrorCode.SaslAuthenticationFailed => "check KAFKA_SASL_MECHANISM, KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD_FILE",
        ErrorCode.Local_Ssl => "check KAFKA_TLS_ENABLED and KAFKA_TLS_CA_FILE: do both sides speak TLS, and is the broker's certificate of that authority and for that name?",
        ErrorCode.TopicAuthorizationFailed or ErrorCode.ClusterAuthorizationFailed or ErrorCode.GroupAuthorizationFailed => "give this user the rights to read and describe the input topics and its consumer group, and to write the output topics",
        ErrorCode.Local_Resolve => "the name leads nowhere: check KAFKA_BROKERS and the DNS of this machine",
        _ => "check KAFKA_BROKERS, that the brokers run, and that the firewalls between let the port through",
    };

    public static IEnumerable<Finding> Database(Patient patient)
    {
        if (patient.Settings is not { } settings) yield break;
        if (settings.Database is null)
        {
            yield return Finding.Ok("database", "a file of its own (data/projection.db)");
            yield break;
        }

        Finding finding;
        try
        {
            using var database = settings.OpenDatabase(patient.Home);
            var status = new CopyAdmin(database, "cybermesh doctor").Status();
            finding = status.Missing.Count == 0
                ? Finding.Ok("database", $"{status.Database}, copied up to block {status.Height}")
                : Finding.Warning("database", $"{status.Database} lacks {status.Missing.Count} step(s) of this version", "run 'cybermesh db migrate', or let the validator's start do it");
        }
        catch (DbException problem)
        {
            finding = Finding.Error("database", problem.Message, problem.SqlState is "28P01" or "28000" ? "check user and password in DB_DSN" : problem.SqlState is "3D000" ? "create the database that DB_DSN names" : "check DB_DSN, that the server runs, and that its firewall lets this machine in");
        }
        catch (SchemaException problem)
        {
            finding = Finding.Error("database", problem.Message, "see docs/cli.md, \"The database\"");
        }
        catch (Exception problem) when (problem is TimeoutException or System.IO.IOException or System.Net.Sockets.SocketException)
        {
            finding = Finding.Error("database", problem.Message, "check DB_DSN, that the server runs, and that its firewall lets this machine in");
        }

        yield return finding;
    }
}
