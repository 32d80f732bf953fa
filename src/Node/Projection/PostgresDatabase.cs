using System.Data;
using System.Data.Common;
using Npgsql;

namespace CyberMesh.Node.Projection;

/// <summary>PostgreSQL or CockroachDB. Its tables stand in a schema; several validators may have one each, or share one.</summary>
public sealed class PostgresDatabase : Database
{
    private readonly NpgsqlDataSource _source;
    private readonly string _schema;

    public PostgresDatabase(PostgresSettings settings, string applicationName)
    {
        var connection = settings.Connection(applicationName);
        _schema = settings.Schema;
        Name = $"{connection.Host}/{connection.Database}, schema {_schema}";
        _source = new NpgsqlDataSourceBuilder(connection.ConnectionString).Build();
    }

    public override string Name { get; }

    internal override string Now => "CAST(extract(epoch FROM now()) * 1000 AS INT8)";

    public override DbConnection Open() => _source.OpenConnection();

    internal override DbTransaction BeginSnapshot(DbConnection connection)
    {
        var moment = connection.BeginTransaction(IsolationLevel.RepeatableRead);
        // Reading everything takes as long as it takes.
        Execute(connection, moment, "SET LOCAL statement_timeout = 0");
        Execute(connection, moment, "SET LOCAL idle_in_transaction_session_timeout = 0");
        return moment;
    }

    internal override void CreateSchema(DbConnection connection)
    {
        // Without the right to create schemas one that is there will do.
        if (Scalar(connection, null, "SELECT 1 FROM information_schema.schemata WHERE schema_name = $1", _schema) is not null) return;
        Execute(connection, null, $"CREATE SCHEMA IF NOT EXISTS {_schema}");
    }

    // Serialization failure, deadlock.
    internal override bool IsConflict(DbException problem) => problem.SqlState is "40001" or "40P01";

    private protected override string ParameterName(int number) => "";

    protected override void Dispose(bool disposing)
    {
        if (disposing) _source.Dispose();
    }
}
